#!/usr/bin/env python3
"""Claude with Anthropic's memory tool, whose files are in C3 Serve.

    c3 serve
    python anthropic_memory.py FILE                 # model: --model NAME
    python anthropic_memory.py FILE --scripted      # without a network

In the first conversation, Claude writes a text into its memory. The second conversation begins with an empty context:
Claude looks into the memory, reads the file and quotes a line of it.
"""

import argparse
import sys
from pathlib import Path

from anthropic import Anthropic, DefaultHttpxClient
from c3serve import Client
from c3serve.adapters.anthropic_memory import C3MemoryTool

from scripted import Call, anthropic_replies


def converse(client: Anthropic, model: str, memory: C3MemoryTool, request: str) -> str:
    """Runs a conversation with an empty context until Claude calls no more tools; returns the last answer."""
    runner = client.beta.messages.tool_runner(
        model=model,
        max_tokens=16_000,
        tools=[memory],
        messages=[{"role": "user", "content": request}],
        betas=["context-management-2025-06-27"],
    )
    answer = runner.until_done()
    return "".join(block.text for block in answer.content if block.type == "text")


def main() -> None:
    """Runs both conversations and compares the file in the memory with the text."""
    parser = argparse.ArgumentParser(description="Claude with a memory in C3 Serve.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--gateway", default="http://127.0.0.1:7300")
    parser.add_argument("--namespace", default="anthropic-example", help="namespace of the memory in the gateway")
    parser.add_argument("--line", type=int, default=5, help="line to ask for")
    parser.add_argument("--model", default="claude-sonnet-5-5")
    parser.add_argument("--scripted", action="store_true", help="use a scripted model instead of --model")
    args = parser.parse_args()
    text, line, path = args.file.read_bytes().decode(), args.line, f"/memories/{args.file.name}"

    script = [
        Call("memory", {"command": "create", "path": path, "file_text": text}),
        "I keep it in my memory.",
        Call("memory", {"command": "view", "path": "/memories"}),
        Call("memory", {"command": "view", "path": path, "view_range": [line, line]}),
        "{result}",
    ]
    options = {"api_key": "none", "http_client": DefaultHttpxClient(transport=anthropic_replies(script))}
    client = Anthropic(**options) if args.scripted else Anthropic()
    with Client(args.gateway) as c3:
        memory = C3MemoryTool(c3, namespace=args.namespace)
        memory.clear_all_memory()
        requests = [
            f"Keep this text in your memory as {path}, word for word:\n{text}",
            f"Quote line {line} of the text that you keep, word for word.",
        ]
        for request in requests:
            print(f"user:   {request.splitlines()[0]}")
            print(f"claude: {converse(client, args.model, memory, request)}\n")
        shown = memory.call({"command": "view", "path": path}).split("\n")
    # The tool numbers the lines of a file.
    kept = [numbered.partition("\t")[2] for numbered in shown[1:]]
    identical = "\n".join(kept) == text
    print(f"identical to {args.file.name}: {'yes' if identical else 'no'}")
    sys.exit(0 if identical else 1)


if __name__ == "__main__":
    main()
