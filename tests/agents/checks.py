"""Checks of the MCP server through a client SDK. `python_client.py` runs them with both versions of the Python SDK."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

TOOLS = {"store", "recall", "find", "forget", "stats"}
TEMPLATES = {"c3://documents/{id}{?start,end}", "c3://names/{namespace}/{+name}{?start,end}"}
# Bytes of the text whose store call reports progress and is cancelled. Both models take a few seconds for it.
LONG_BYTES = 10_000


@dataclass
class Result:
    """Result of a tool call. `error` is that of the tool, or the message of a protocol error."""

    structured: Any = None
    texts: list[str] = field(default_factory=list)
    error: str | None = None

    def __getitem__(self, key: str) -> Any:
        """Returns a field of the structured result; fails if the call failed."""
        if self.error is not None:
            raise AssertionError(f"the call failed: {self.error}")
        return self.structured[key]


class Connection(Protocol):
    """Connection of a client to the server."""

    protocol_version: str
    server_name: str

    async def tools(self) -> list[dict[str, Any]]:
        """Lists tools, as JSON objects of the protocol."""

    async def call(self, tool: str, arguments: dict[str, Any], progress: list[float] | None = None) -> Result:
        """Calls a tool. Values of progress reports are appended to `progress`."""

    async def cancelled_call(self, tool: str, arguments: dict[str, Any], after: float) -> None:
        """Calls a tool and cancels the call after some seconds; raises an exception if it has ended before."""

    async def resources(self) -> list[str]:
        """Lists the URIs of all resources."""

    async def templates(self) -> list[str]:
        """Lists the URI templates of resources."""

    async def read(self, uri: str) -> str:
        """Reads a text resource; raises an exception if there is none."""


class Checks:
    """Runs checks and keeps the failures."""

    def __init__(self) -> None:
        """Starts without checks."""
        self.count = 0
        self.failures: list[str] = []

    def that(self, name: str, holds: bool, detail: object = "") -> None:
        """Counts a check, and a failure unless it holds."""
        self.count += 1
        if not holds:
            self.failures.append(f"{name}: {str(detail)[:300]}")

    def equal(self, name: str, value: object, expected: object) -> None:
        """Checks that two values are equal."""
        self.that(name, value == expected, f"{value!r} instead of {expected!r}")

    def refused(self, name: str, result: Result) -> None:
        """Checks that a call failed with a message."""
        self.that(name, bool(result.error), result.structured)

    def report(self, client: str, transport: str, era: str, seconds: float) -> str:
        """Returns the counts as a line of JSON."""
        failed = {"failed": len(self.failures), "failures": self.failures}
        of = {"client": client, "transport": transport, "era": era, "checks": self.count}
        return json.dumps({**of, **failed, "seconds": round(seconds, 1)}, ensure_ascii=False)


def text_of(lines: int) -> str:
    """Returns a text that nothing else stores, with characters of up to four bytes."""
    unique = uuid.uuid4().hex
    parts = [f"Line {n} of {unique}: the lamp at pier {n * 7 % 97} is ä 書 😀.\n" for n in range(1, lines + 1)]
    return "".join(parts) + "The last line has no end."


def long_text() -> str:
    """Returns a text of about LONG_BYTES that nothing else stores, and that does not repeat itself."""
    text = []
    while sum(map(len, text)) < LONG_BYTES:
        text.append(" ".join(uuid.uuid4().hex[:6] for _ in range(10)) + ".\n")
    return "".join(text)


async def run(connection: Connection, checks: Checks, file: tuple[str, str] | None) -> None:
    """Runs all checks. `file` is the path and the text of a file that the server may read, if it may read files."""
    steps = [
        tools,
        store,
        lines,
        bytes_and_budget,
        match,
        find,
        resources,
        wrong_arguments,
        progress_and_cancel,
        forget,
    ]
    document = Document(f"check-{uuid.uuid4().hex[:8]}/plan", text_of(60), file)
    for step in steps:
        try:
            await step(connection, checks, document)
        except Exception as error:  # A check that cannot be made has failed.
            checks.that(step.__name__, False, f"{type(error).__name__}: {error}")


@dataclass
class Document:
    """Document that the checks store."""

    name: str
    text: str
    file: tuple[str, str] | None
    id: str = ""
    handle: str = ""

    @property
    def bytes(self) -> bytes:
        """Returns the text as UTF-8."""
        return self.text.encode()


async def tools(connection: Connection, checks: Checks, document: Document) -> None:
    """Checks the server's name and the list of tools."""
    checks.equal("server name", connection.server_name, "c3-serve")
    listed = {tool["name"]: tool for tool in await connection.tools()}
    checks.equal("tools", set(listed), TOOLS)
    for name, tool in listed.items():
        kinds = [tool.get(schema, {}).get("type") for schema in ("inputSchema", "outputSchema")]
        checks.equal(f"schemas of {name}", kinds, ["object", "object"])
        checks.that(f"description of {name}", bool(tool.get("description")))
    hints = {name: tool.get("annotations", {}).get("readOnlyHint") for name, tool in listed.items()}
    checks.equal("read-only tools", {name for name, hint in hints.items() if hint}, {"recall", "find", "stats"})
    offers_path = "path" in listed["store"]["inputSchema"]["properties"]
    checks.equal("store offers files", offers_path, document.file is not None)


async def store(connection: Connection, checks: Checks, document: Document) -> None:
    """Stores a text, and a file if the server may read files; recalls both."""
    arguments = {"text": document.text, "name": document.name, "labels": {"check": "mcp"}}
    stored = await connection.call("store", arguments)
    document.id, document.handle = stored["id"], stored["handle"]
    checks.equal("handle", document.handle, document.id[:12])
    checks.equal("size", stored["size"], len(document.bytes))
    checks.equal("lines", stored["lines"], 61)
    checks.that("tokens", stored["tokens"] > 0, stored.structured)
    checks.that("summary", bool(stored["summary"]), stored.structured)
    again = await connection.call("store", {"text": document.text})
    checks.equal("stored twice", again["id"], document.id)
    for reference in (document.handle, document.id, document.id[:16], f"@{document.name}"):
        recalled = await connection.call("recall", {"handle": reference})
        checks.equal(f"recall {reference}", recalled["text"], document.text)
        checks.equal(f"first block of {reference}", recalled.texts[0], document.text)
    if document.file:
        path, text = document.file
        stored = await connection.call("store", {"path": path})
        checks.equal("file", (await connection.call("recall", {"handle": stored["handle"]}))["text"], text)
    for path in ("/etc/hostname", "../secret", "no-such-file"):
        checks.refused(f"file {path}", await connection.call("store", {"path": path}))


async def lines(connection: Connection, checks: Checks, document: Document) -> None:
    """Recalls lines."""
    split = document.text.splitlines(keepends=True)
    for first, last in ((1, 1), (3, 5), (60, 61), (2, None), (None, 4)):
        arguments = {"handle": document.handle, "first_line": first, "last_line": last}
        given = {key: value for key, value in arguments.items() if value is not None}
        recalled = await connection.call("recall", given)
        checks.equal(f"lines {first}..{last}", recalled["text"], "".join(split[(first or 1) - 1 : last]))
        checks.equal(f"first_line of {first}..{last}", recalled["first_line"], first or 1)
    checks.refused("line 99", await connection.call("recall", {"handle": document.handle, "first_line": 99}))
    backwards = {"handle": document.handle, "first_line": 5, "last_line": 4}
    checks.refused("lines 5..4", await connection.call("recall", backwards))


async def bytes_and_budget(connection: Connection, checks: Checks, document: Document) -> None:
    """Recalls ranges of bytes, and the whole text in parts of a few tokens."""
    size = len(document.bytes)
    for start, end in ((0, 4), (5, 46), (size - 9, size), (100, None)):
        if end is None:
            start = document.bytes.index(b"Line 9 ")
        given = {"handle": document.handle, "start": start} | ({} if end is None else {"end": end})
        recalled = await connection.call("recall", given)
        checks.equal(f"bytes {start}..{end}", recalled["text"].encode(), document.bytes[start:end])
        checks.equal(f"range {start}..{end}", (recalled["start"], recalled["end"]), (start, end or size))
    beyond = {"handle": document.handle, "start": size + 1}
    checks.refused("bytes after the end", await connection.call("recall", beyond))
    text, start, parts = "", 0, 0
    while start is not None and parts < 200:
        part = await connection.call("recall", {"handle": document.handle, "start": start, "max_tokens": 200})
        checks.that(f"part {parts} begins at {start}", part["start"] == start, part["start"])
        text, start, parts = text + part["text"], part.structured.get("next"), parts + 1
    checks.equal("parts joined", text, document.text)
    checks.that("several parts", parts > 3, parts)


async def match(connection: Connection, checks: Checks, document: Document) -> None:
    """Recalls the lines around a match."""
    split = document.text.splitlines(keepends=True)
    arguments = {"handle": document.handle, "match": "Line 30 of", "context": 2}
    recalled = await connection.call("recall", arguments)
    checks.equal("match", recalled["text"], "".join(split[27:32]))
    checks.equal("start of the match", recalled["start"], document.bytes.index(b"Line 28 of"))
    absent = {"handle": document.handle, "match": "no such words anywhere"}
    checks.refused("no match", await connection.call("recall", absent))


async def find(connection: Connection, checks: Checks, document: Document) -> None:
    """Searches, lists, and follows the cursor."""
    unique = document.text.split()[3].rstrip(":")
    found = await connection.call("find", {"query": unique, "limit": 1})
    hits = found["hits"]
    checks.that("found by a word", bool(hits) and hits[0]["id"] == document.id, found.structured)
    if hits:
        window = {"handle": hits[0]["handle"], "start": hits[0]["start"], "end": hits[0]["end"]}
        recalled = await connection.call("recall", window)
        checks.equal("window", recalled["text"].encode(), document.bytes[window["start"] : window["end"]])
    exact = await connection.call("find", {"query": f"Line 17 of {unique}", "exact": True})
    checks.that("found exactly", any(hit["id"] == document.id for hit in exact["hits"]), exact.structured)
    in_document = {"query": "lamp", "documents": [document.handle]}
    checks.equal(
        "found within", {hit["id"] for hit in (await connection.call("find", in_document))["hits"]}, {document.id}
    )
    namespace, name = document.name.split("/")
    listed = await connection.call("find", {"namespace": namespace, "name": name[:3], "labels": {"check": "mcp"}})
    checks.equal("listed", [hit["id"] for hit in listed["hits"]], [document.id])
    checks.equal(
        "other label", (await connection.call("find", {"namespace": namespace, "labels": {"check": "x"}}))["hits"], []
    )
    future = {"namespace": namespace, "created_from": "2999-01-01T00:00:00Z"}
    checks.equal("created later", (await connection.call("find", future))["hits"], [])
    # Scores shift while documents that were stored a moment ago become searchable, and then pages repeat or lack hits.
    for _ in range(3):
        windows = await pages(connection, in_document)
        is_complete = len(windows) > 1 and len(set(windows)) == len(windows)
        if is_complete:
            break
        await asyncio.sleep(3)
    checks.that("pages", is_complete, windows)
    stats = await connection.call("stats", {})
    checks.that("stats", stats["documents"] > 0 and bool(stats["version"]), stats.structured)


async def pages(connection: Connection, query: dict[str, Any]) -> list[tuple[str, int]]:
    """Returns the hits of a query, which come in pages of one hit."""
    windows, cursor = [], None
    while len(windows) < 50:
        page = await connection.call("find", {**query, "limit": 1} | ({"cursor": cursor} if cursor else {}))
        windows += [(hit["id"], hit["start"]) for hit in page["hits"]]
        cursor = page.structured.get("next_cursor")
        if not cursor:
            break
    return windows


async def resources(connection: Connection, checks: Checks, document: Document) -> None:
    """Lists, reads and completes resources."""
    checks.equal("templates", set(await connection.templates()), TEMPLATES)
    uri = f"c3://documents/{document.id}"
    checks.that("resource listed", uri in await connection.resources(), uri)
    named = f"c3://names/{document.name}"
    for read, expected in (
        (uri, document.text),
        (f"{uri}?start=5&end=46", document.bytes[5:46].decode()),
        (named, document.text),
        (f"{named}?end=4", "Line"),
    ):
        checks.equal(f"read {read}", await connection.read(read), expected)
    for unknown in (
        f"c3://documents/{'0' * 64}",
        "c3://names/default/no-such-name",
        "c3://other/1",
        "file:///etc/hostname",
    ):
        try:
            checks.that(f"read {unknown}", False, await connection.read(unknown))
        except AssertionError:
            raise
        except Exception as error:
            checks.that(f"read {unknown}", bool(str(error)), "no message")


async def wrong_arguments(connection: Connection, checks: Checks, document: Document) -> None:
    """Sends arguments that cannot be used. Each must be refused, with a message."""
    handle = document.handle
    for tool, arguments in (
        ("store", {}),
        ("store", {"text": "a", "path": "b"}),
        ("store", {"text": 1}),
        ("store", {"text": "a", "ratio": -1}),
        ("store", {"text": "a", "name": "not a name!"}),
        ("recall", {}),
        ("recall", {"handle": "zz"}),
        ("recall", {"handle": "0" * 12}),
        ("recall", {"handle": "@no-such-name"}),
        ("recall", {"handle": handle, "start": "x"}),
        ("recall", {"handle": handle, "start": -1}),
        ("recall", {"handle": handle, "start": 1, "first_line": 1}),
        ("recall", {"handle": handle, "max_tokens": 0}),
        ("recall", {"handle": handle, "unknown": True}),
        ("find", {"query": "a", "limit": 0}),
        ("find", {"query": "a", "cursor": "wrong"}),
        ("find", {"query": "a", "created_from": "yesterday"}),
        ("forget", {"handle": "0" * 12}),
        ("stats", {"unknown": 1}),
        ("no_such_tool", {}),
    ):
        checks.refused(f"{tool} {arguments}", await connection.call(tool, arguments))
    checks.equal("still there", (await connection.call("recall", {"handle": handle}))["text"], document.text)


async def progress_and_cancel(connection: Connection, checks: Checks, document: Document) -> None:
    """Stores a long text with progress, then cancels the store call of another one of the same length."""
    text, reports = long_text(), []
    began = time.monotonic()
    stored = await connection.call("store", {"text": text}, progress=reports)
    seconds = time.monotonic() - began
    checks.equal("long text", stored["size"], len(text.encode()))
    checks.that("progress", len(reports) > 0, reports)
    rises = reports == sorted(set(reports)) and all(report <= len(text.encode()) for report in reports)
    checks.that("progress rises", rises, reports)
    namespace = f"cancel-{uuid.uuid4().hex[:8]}"
    arguments = {"text": long_text(), "name": f"{namespace}/plan"}
    await connection.cancelled_call("store", arguments, after=seconds / 4)
    # The connection still works.
    checks.that("after a cancel", (await connection.call("stats", {}))["documents"] > 0)
    # Longer than the call would have taken.
    await asyncio.sleep(1.5 * seconds + 1)
    checks.equal("cancelled", (await connection.call("find", {"namespace": namespace}))["hits"], [])
    await connection.call("forget", {"handle": stored["handle"]})


async def forget(connection: Connection, checks: Checks, document: Document) -> None:
    """Deletes the document."""
    forgotten = await connection.call("forget", {"handle": f"@{document.name}"})
    checks.equal("forgotten", (forgotten["id"], forgotten["handle"]), (document.id, document.handle))
    checks.refused("recall after forget", await connection.call("recall", {"handle": document.handle}))
    checks.refused("forget again", await connection.call("forget", {"handle": document.handle}))
    checks.that("resource gone", f"c3://documents/{document.id}" not in await connection.resources())
