#!/usr/bin/env python3
"""Checks the MCP server with the Python SDK: version 2 in both eras of the protocol, or version 1 in the older one.

    python python_client.py --stdio 'c3 mcp --gateway URL --files DIR' --files DIR --http URL/mcp [--key KEY]

Prints a line of JSON for each transport and era. Exits with 1 if a check failed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import shlex
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from checks import Checks, Connection, Result, run

VERSION = importlib.metadata.version("mcp")
OLD_ERA, NEW_ERA = "2025-11-25", "2026-07-28"
# Seconds for the checks of a transport and era.
LIMIT = 300


def result_of(called: Any) -> Result:
    """Returns the result of a tool call, from the protocol's JSON: field names differ between versions of the SDK."""
    json = called.model_dump(by_alias=True)
    texts = [block["text"] for block in json["content"] if block["type"] == "text"]
    error = " ".join(texts) or "an error without a text" if json.get("isError") else None
    return Result(json.get("structuredContent"), texts, error)


class SdkConnection(Connection):
    """What the sessions of both versions of the SDK have in common."""

    def __init__(self, session: Any, protocol_version: str, server_name: str) -> None:
        """Wraps a session."""
        self.session = session
        self.protocol_version, self.server_name = protocol_version, server_name

    async def tools(self) -> list[dict[str, Any]]:
        listed = await self.session.list_tools()
        return [tool.model_dump(by_alias=True, exclude_none=True) for tool in listed.tools]

    async def call(self, tool: str, arguments: dict[str, Any], progress: list[float] | None = None) -> Result:
        async def report(done: float, total: float | None, message: str | None) -> None:
            progress.append(done)

        try:
            called = await self.session.call_tool(
                tool, arguments, progress_callback=None if progress is None else report
            )
        except Exception as error:
            if type(error).__name__ not in ("McpError", "MCPError"):
                raise
            return Result(error=str(error))
        return result_of(called)

    async def resources(self) -> list[str]:
        uris, cursor = [], None
        while True:
            listed = await self._page(cursor)
            uris += [str(resource.uri) for resource in listed.resources]
            cursor = listed.model_dump(by_alias=True).get("nextCursor")
            if not cursor:
                return uris

    async def _page(self, cursor: str | None) -> Any:
        return await self.session.list_resources(cursor=cursor)

    async def templates(self) -> list[str]:
        listed = (await self.session.list_resource_templates()).model_dump(by_alias=True)
        return [template["uriTemplate"] for template in listed["resourceTemplates"]]

    async def read(self, uri: str) -> str:
        return "".join(part.text for part in (await self.session.read_resource(uri)).contents)


class NewConnection(SdkConnection):
    """Client of version 2. The end of a call's scope cancels the call."""

    async def _page(self, cursor: str | None) -> Any:
        # Documents come and go between the checks; the server allows no caching of this list.
        return await self.session.list_resources(cursor=cursor)

    async def cancelled_call(self, tool: str, arguments: dict[str, Any], after: float) -> None:
        with anyio.move_on_after(after) as scope:
            await self.session.call_tool(tool, arguments)
        if not scope.cancelled_caught:
            raise AssertionError("the call ended before it was cancelled")


class OldConnection(SdkConnection):
    """Session of version 1. A cancel is a notification with the id of the call's request."""

    async def cancelled_call(self, tool: str, arguments: dict[str, Any], after: float) -> None:
        from mcp.types import CancelledNotification, CancelledNotificationParams, ClientNotification

        request = self.session._request_id
        with anyio.move_on_after(after) as scope:
            await self.session.call_tool(tool, arguments)
        if not scope.cancelled_caught:
            raise AssertionError("the call ended before it was cancelled")
        params = CancelledNotificationParams(requestId=request, reason="no longer needed")
        await self.session.send_notification(ClientNotification(CancelledNotification(params=params)))


@asynccontextmanager
async def connect(args: argparse.Namespace, transport: str, era: str) -> AsyncIterator[SdkConnection]:
    """Connects to the server."""
    headers = {"authorization": f"Bearer {args.key}"} if args.key else {}
    async with AsyncExitStack() as stack:
        if transport == "stdio":
            command, *arguments = shlex.split(args.stdio)
            streams = stdio_client(StdioServerParameters(command=command, args=arguments))
        else:
            client = await stack.enter_async_context(http_client(headers))
            streams = streamable_http_client(args.http, http_client=client)
        if VERSION.startswith("1."):
            read, write, *session_id = await stack.enter_async_context(streams)
            session = await stack.enter_async_context(mcp.ClientSession(read, write))
            begun = await session.initialize()
            if session_id and not session_id[0]():
                raise AssertionError("the server began no session")
            yield OldConnection(session, str(begun.protocolVersion), begun.serverInfo.name)
        else:
            mode = "auto" if era == NEW_ERA else "legacy"
            client = await stack.enter_async_context(mcp.Client(streams, mode=mode))
            yield NewConnection(client, client.protocol_version, client.server_info.name)


def http_client(headers: dict[str, str]) -> Any:
    """Returns an HTTP client of the library that the SDK uses."""
    if VERSION.startswith("1."):
        import httpx as library
    else:
        import httpx2 as library
    return library.AsyncClient(headers=headers, timeout=120)


async def check(args: argparse.Namespace, transport: str, era: str) -> bool:
    """Checks a transport in an era, prints the report, and tells whether all checks held."""
    checks, began = Checks(), time.monotonic()
    file = None
    if transport == "stdio" and args.files:
        path = args.files / "file.txt"
        file = (path.name, path.read_bytes().decode())
    try:
        async with asyncio.timeout(LIMIT), connect(args, transport, era) as connection:
            checks.equal("protocol version", connection.protocol_version, era)
            await run(connection, checks, file)
    except (Exception, asyncio.CancelledError) as error:
        checks.that("connection", False, f"{type(error).__name__}: {flat(error)}")
    print(checks.report(f"python-{VERSION}", transport, era, time.monotonic() - began), flush=True)
    return not checks.failures


def flat(error: BaseException) -> str:
    """Returns the messages of an error and the errors in its group."""
    inner = getattr(error, "exceptions", ())
    return "; ".join(flat(each) for each in inner) if inner else f"{type(error).__name__}: {error}"


async def main() -> None:
    """Checks all transports and eras."""
    parser = argparse.ArgumentParser(description="Checks the MCP server with the Python SDK.")
    parser.add_argument("--stdio", help="command that serves over standard input and output")
    parser.add_argument("--files", type=Path, help="directory with file.txt that the command may read")
    parser.add_argument("--http", help="URL of the server")
    parser.add_argument("--key", help="API key for --http")
    args = parser.parse_args()
    eras = [OLD_ERA] if VERSION.startswith("1.") else [OLD_ERA, NEW_ERA]
    transports = [name for name in ("stdio", "http") if getattr(args, name)]
    held = [await check(args, transport, era) for transport in transports for era in eras]
    sys.exit(0 if all(held) and held else 1)


if __name__ == "__main__":
    asyncio.run(main())
