#!/usr/bin/env python3
"""An agent that works with long texts through the MCP server of C3 Serve. Python SDK of MCP, and of Anthropic.

    python mcp_client.py FILE                                     # starts `c3 mcp`, which runs all of C3 Serve
    python mcp_client.py FILE --url http://127.0.0.1:7300/mcp     # uses a gateway; its API key: C3_API_KEY
    python mcp_client.py FILE --scripted                          # without a network

The program stores a long text and tells the model only its handle. The model recalls the part that it needs, so the
rest never takes space in its context.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import httpx2
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from anthropic.lib.tools.mcp import async_mcp_tool
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from scripted import Call, anthropic_replies


def server(args: argparse.Namespace):
    """Returns the MCP server: a gateway's, or a program that the SDK starts."""
    if not args.url:
        return StdioServerParameters(command=args.c3, args=["mcp", "--data", args.data])
    key = os.environ.get("C3_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return streamable_http_client(args.url, http_client=httpx2.AsyncClient(headers=headers, timeout=600))


async def call(mcp: Client, tool: str, **arguments) -> dict:
    """Calls a tool; returns its structured result."""
    result = await mcp.call_tool(tool, arguments)
    if result.is_error:
        raise RuntimeError(result.content[0].text)
    return result.structured_content


async def whole_text(mcp: Client, handle: str) -> str:
    """Reads a document of any length: `recall` returns a part, and where the next one begins."""
    text, start = "", 0
    while start is not None:
        part = await call(mcp, "recall", handle=handle, start=start)
        text, start = text + part["text"], part.get("next")
    return text


async def ask(client: AsyncAnthropic, model: str, mcp: Client, question: str) -> str:
    """Lets the model call the server's tools until it answers."""
    tools = [async_mcp_tool(tool, mcp.session) for tool in (await mcp.list_tools()).tools]
    messages = [{"role": "user", "content": question}]
    runner = client.beta.messages.tool_runner(model=model, max_tokens=4000, tools=tools, messages=messages)
    answer = await runner.until_done()
    return "".join(block.text for block in answer.content if block.type == "text")


async def main() -> None:
    """Stores the file, asks for a line of it, and compares the whole text with the file."""
    parser = argparse.ArgumentParser(description="Agent that uses the MCP server of C3 Serve.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", help="MCP endpoint of a gateway, instead of a process of its own")
    parser.add_argument("--c3", default="c3", help="program c3")
    parser.add_argument("--data", default="documents", help="folder of the documents, without --url")
    parser.add_argument("--line", type=int, default=5, help="line to ask for")
    parser.add_argument("--model", default="claude-sonnet-5-5")
    parser.add_argument("--scripted", action="store_true", help="use a scripted model instead of --model")
    args = parser.parse_args()
    text, line = args.file.read_bytes().decode(), args.line

    async with Client(server(args)) as mcp:
        print(f"server: {mcp.server_info.name}, protocol {mcp.protocol_version}")
        stored = await call(mcp, "store", text=text)
        print(f"stored: {stored['handle']}, {stored['size']} bytes, {stored['tokens']} tokens\n")

        handle = stored["handle"]
        script = [Call("recall", {"handle": handle, "first_line": line, "last_line": line}), "{result}"]
        replies = DefaultAsyncHttpxClient(transport=anthropic_replies(script))
        client = AsyncAnthropic(api_key="none", http_client=replies) if args.scripted else AsyncAnthropic()
        question = f"Quote line {line} of the document {handle}, word for word."
        print(f"user:   {question}")
        print(f"claude: {await ask(client, args.model, mcp, question)}\n")

        identical = await whole_text(mcp, handle) == text
        print(f"identical to {args.file.name}: {'yes' if identical else 'no'}")
    sys.exit(0 if identical else 1)


if __name__ == "__main__":
    asyncio.run(main())
