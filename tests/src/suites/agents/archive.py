"""Session archive against real programs: `archive.py session|kills --programs DIR [--each N]`. Prints values as JSON.

`session` replays the fixture through the hooks of clients/claude-code, turn by turn, beside `c3 serve`. It recalls
every fact of the fixture with one `find` and one `recall`, reads every turn back, then archives texts that were
recalled, and searches for them. `kills` archives the fixture through a gateway, a compressor and a decoder, and kills
one of them, or the worker, with SIGKILL at random moments.

The tools are those of `c3 mcp`, if the program has that command; otherwise the HTTP calls behind them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from c3serve import C3Error, Client, RetryPolicy
from c3serve.archive import ArchiveError, SessionArchive

ROOT = Path(__file__).parents[4]
FIXTURE = ROOT / "tests/fixtures/agents"
PLUGIN = ROOT / "clients/claude-code"
HOOKS = json.loads((PLUGIN / "hooks/hooks.json").read_bytes())["hooks"]
SESSION = "7d1c2a40-5b0e-4c52-9f3e-0c6a1f7b2d11"
SEED = 11
KILLS = 20
# The ratio is measured after this turn.
RATIO_TURNS = 50
# A recall reads whole pages around a hit, with at least the margin on each side: a command stands before its result.
MARGIN, PAGE = 2000, 4096
READY_SECONDS = 120
CATCH_UP_SECONDS = 900
RECALLED = 8


class Programs:
    """Processes of C3 Serve that are killed and started again on the same port."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, list[str]] = {}

    def start(self, name: str, command: list[str]) -> None:
        self.commands[name] = command
        with open(self.folder / f"{name}.log", "ab") as log:
            program = [str(self.programs / command[0]), *command[1:]]
            self.processes[name] = subprocess.Popen(program, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def restart(self, name: str) -> None:
        self.start(name, self.commands[name])

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait()


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def wait_ready(url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    sys.exit(f"{url} does not become ready")


class Replay:
    """A session that is written turn by turn, with its hooks."""

    def __init__(self, folder: Path, gateway: str) -> None:
        self.source = (FIXTURE / "transcript.jsonl").read_bytes()
        self.turns = _turns(self.source)
        self.transcript = folder / "transcript.jsonl"
        self.transcript.write_bytes(b"")
        self.state = folder / "state"
        # Seconds of the hooks for which a turn waits, and of those at the start of a session.
        self.delays: list[float] = []
        self.start_delays: list[float] = []
        self.environment = {
            **os.environ,
            "C3_GATEWAY": gateway,
            "C3_ARCHIVE_FOLDER": str(self.state),
            "C3_PYTHON": sys.executable,
            "CLAUDE_PLUGIN_ROOT": str(PLUGIN),
        }

    def write(self, data: bytes) -> None:
        with self.transcript.open("ab") as file:
            file.write(data)

    def hook(self, event: str, **members: str) -> str:
        body = {"session_id": SESSION, "transcript_path": str(self.transcript), "hook_event_name": event, **members}
        command = ["sh", "-c", HOOKS[event][0]["hooks"][0]["command"]]
        begun = time.monotonic()
        done = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True, env=self.environment)
        (self.start_delays if event == "SessionStart" else self.delays).append(time.monotonic() - begun)
        if done.returncode or done.stderr:
            sys.exit(f"the hook fails: {done.stderr}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        try:
            return json.loads((self.state / SESSION / "status.json").read_bytes())
        except (OSError, ValueError):
            return {}

    def is_done(self) -> bool:
        done = self.status().get("done") or {}
        return done.get("upto") == self.transcript.stat().st_size

    def wait_done(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.is_done() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.is_done()


def _turns(transcript: bytes) -> list[bytes]:
    turns: list[bytes] = []
    for line in transcript.splitlines(keepends=True):
        entry = json.loads(line)
        if entry["type"] == "user" and isinstance(entry["message"]["content"], str):
            turns.append(b"")
        turns[-1] += line
    return turns


class Tools:
    """The tools `find` and `recall`, as structured results."""

    def __init__(self, programs: Path, gateway: str) -> None:
        self.calls = 0
        self.is_mcp = subprocess.run([programs / "c3", "mcp", "--help"], capture_output=True).returncode == 0
        self._client = Client(gateway)
        self._cache: dict[str, dict[str, Any]] = {}
        if self.is_mcp:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
            self._run(self._connect(str(programs / "c3"), gateway))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self, program: str, gateway: str) -> None:
        from mcp import Client as McpClient
        from mcp import StdioServerParameters

        # One task owns the connection, because it must leave the context that it has entered.
        connected = asyncio.Event()

        async def own() -> None:
            arguments = StdioServerParameters(command=program, args=["mcp", "--gateway", gateway])
            async with McpClient(arguments) as self._mcp:
                connected.set()
                await asyncio.Event().wait()

        self._owner = asyncio.ensure_future(own())
        await asyncio.wait([self._owner, asyncio.ensure_future(connected.wait())], return_when="FIRST_COMPLETED")
        if self._owner.done():
            self._owner.result()

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Calls a tool. Repeated calls with the same arguments count, but are made once."""
        self.calls += 1
        key = json.dumps([name, arguments])
        if key not in self._cache:
            self._cache[key] = self._mcp_call(name, arguments) if self.is_mcp else getattr(self, name)(**arguments)
        return self._cache[key]

    def _mcp_call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = self._run(self._mcp.call_tool(name, arguments))
        if result.is_error:
            sys.exit(f"{name} {arguments}: {result.content[0].text}")
        return dict(result.structured_content)

    def find(self, query: str, labels: dict[str, str], limit: int, exact: bool = False) -> dict[str, Any]:
        page = self._client.search(query, labels=labels, limit=limit, exact=exact)
        hits = [
            {
                "handle": hit.document[:12],
                "id": hit.document,
                "start": hit.start,
                "end": hit.end,
                "size": self._client.stat(hit.document).bytes,
            }
            for hit in page.hits
        ]
        return {"hits": hits, "partial": page.partial}

    def recall(self, handle: str, start: int, end: int) -> dict[str, Any]:
        document = self._client.stat(handle)
        data = self._client.range(document.id, start, min(end, document.bytes))
        # A range may begin and end within a character.
        first = start + len(data) - len(data.lstrip(bytes(range(0x80, 0xC0))))
        text = data.decode(errors="ignore")
        end = first + len(text.encode())
        return {"handle": handle, "id": document.id, "start": first, "end": end, "size": document.bytes, "text": text}


def session(folder: Path, programs: Path, each: int) -> dict[str, Any]:
    """Measures recall, delays, size and references."""
    started = Programs(folder, programs)
    address = free_address()
    url = f"http://{address}"
    started.start("c3", ["c3", "serve", "--listen", address, "--data", str(folder / "data")])
    try:
        wait_ready(url)
        replay = Replay(folder, url)
        begun = time.monotonic()
        values: dict[str, Any] = {"transcript_bytes": len(replay.source), "turns": len(replay.turns)}
        for number, turn in enumerate(replay.turns, 1):
            replay.write(turn)
            replay.hook("Stop")
            # Some hooks run while the worker of the turn before still works.
            if number % 4 == 0 and not replay.wait_done(CATCH_UP_SECONDS):
                sys.exit(f"turn {number} is not archived: {replay.status()}")
            if number == RATIO_TURNS:
                replay.wait_done(CATCH_UP_SECONDS)
                values["ratio_after_50"] = _text_bytes(url) / replay.transcript.stat().st_size
        replay.hook("PreCompact", trigger="auto")
        values["table_during_compaction"] = bool(replay.hook("SessionStart", source="compact"))
        replay.wait_done(CATCH_UP_SECONDS)
        values["archive_seconds"] = round(time.monotonic() - begun, 1)
        client = Client(url)
        archive = SessionArchive(client, SESSION, replay.state)
        read = b"".join(archive.turn(entry.turn) for entry in archive.entries)
        values["turns_archived"] = len(archive.entries)
        values["identical"] = read == replay.source
        values["documents"] = len(list(client.list(labels={"session": SESSION})))
        tools = Tools(programs, url)
        values["tools"] = "mcp" if tools.is_mcp else "http"
        values |= _recall_facts(tools, each)
        values |= _recalled_again(replay, tools, archive, client)
        values["hook_delay_ms_max"] = round(1000 * max(replay.delays), 1)
        values["start_hook_delay_ms_max"] = round(1000 * max(replay.start_delays), 1)
        values["hook_delay_ms_median"] = round(1000 * sorted(replay.delays)[len(replay.delays) // 2], 1)
        values["hooks"] = len(replay.delays)
        return values
    finally:
        started.stop()


def _text_bytes(url: str) -> float:
    """Returns the bytes of text that the gateway has taken."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('c3_text_bytes_total{direction="in"'))


def _recall_facts(tools: Tools, each: int) -> dict[str, Any]:
    facts = json.loads((FIXTURE / "facts.json").read_bytes())[::each]
    right = {"command": 0, "path": 0, "number": 0}
    wrong: list[dict[str, Any]] = []
    calls_max = 0
    for fact in facts:
        before = tools.calls
        found = tools.call("find", query=fact["query"], labels={"session": SESSION}, limit=1)
        text = ""
        if found["hits"]:
            hit = found["hits"][0]
            text = tools.call("recall", **_around(hit))["text"]
        calls_max = max(calls_max, tools.calls - before)
        if fact["value"] in text:
            right[fact["kind"]] += 1
        else:
            wrong.append(fact)
    counts = {f"{kind}s_recalled": count for kind, count in right.items()}
    share = sum(right.values()) / len(facts)
    return {
        "facts": len(facts),
        **counts,
        "recalled_share": share,
        "tool_calls_max": calls_max,
        "not_recalled": wrong[:5],
    }


def _around(hit: dict[str, Any]) -> dict[str, Any]:
    start = max(0, hit["start"] - MARGIN) // PAGE * PAGE
    end = -(-(hit["end"] + MARGIN) // PAGE) * PAGE
    return {"handle": hit["handle"], "start": start, "end": min(end, hit["size"])}


def _recalled_again(replay: Replay, tools: Tools, archive: SessionArchive, client: Client) -> dict[str, Any]:
    """Recalls texts as Claude Code records it, archives the turns, and searches for the texts."""
    entries = list(archive.entries)
    chance = random.Random(SEED)
    facts = json.loads((FIXTURE / "facts.json").read_bytes())
    commands = chance.sample(
        [fact for fact in facts if fact["kind"] == "command" and "\n" not in fact["value"]], RECALLED
    )
    before = len(entries)
    for number, fact in enumerate(commands):
        found = tools.call("find", query=f'"{fact["query"].split()[-1]}"', labels={"session": SESSION}, limit=1)
        hit = found["hits"][0]
        recalled = tools.call("recall", **_around(hit))
        lines = [_user(f"What was command {number}?")]
        for tool, result in (("find", found), ("recall", recalled)):
            dumped = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
            lines.append(_call(f"mcp__plugin_c3-archive_c3__{tool}", f"toolu_{tool}_{number}"))
            block = {"tool_use_id": f"toolu_{tool}_{number}", "type": "tool_result", "content": dumped}
            more = {"toolUseResult": dumped, "mcpMeta": {"structuredContent": result}}
            lines.append({"type": "user", "message": {"role": "user", "content": [block]}, **more})
        text = "".join(json.dumps({**line, "sessionId": SESSION}, ensure_ascii=False) + "\n" for line in lines)
        replay.write(text.encode())
        replay.hook("Stop")
    if not replay.wait_done(CATCH_UP_SECONDS):
        sys.exit(f"the recalled texts are not archived: {replay.status()}")
    new = archive.entries[before:]
    read = b"".join(archive.turn(entry.turn) for entry in new)
    is_exact = replay.transcript.read_bytes().endswith(read) and len(new) == RECALLED
    later = {entry.id for entry in new}
    copies = 0
    for fact in commands:
        deadline = time.monotonic() + 30
        while (page := client.search(fact["value"], exact=True, labels={"session": SESSION}, limit=20)).partial:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        documents = {hit.document for hit in page.hits}
        if not documents:
            sys.exit(f"the search finds no original of {fact['value']}")
        copies += len(documents & later)
    bytes_new = sum(entry.end - entry.start for entry in new)
    return {
        "second_copies": copies,
        "recalled_turns_identical": is_exact,
        "recalled_turns_bytes": bytes_new,
        "recalled_turns_stored_bytes": sum(entry.bytes for entry in new),
    }


def _user(text: str) -> dict[str, Any]:
    return {"type": "user", "message": {"role": "user", "content": text}}


def _call(name: str, id: str) -> dict[str, Any]:
    block = {"type": "tool_use", "id": id, "name": name, "input": {}}
    return {"type": "assistant", "message": {"role": "assistant", "content": [block]}}


def kills(folder: Path, programs: Path) -> dict[str, Any]:
    """Archives while processes are killed. Reads back what is said to be archived, during and after."""
    started = Programs(folder, programs)
    addresses = {name: free_address() for name in ("compressor", "decoder", "gateway")}
    url = f"http://{addresses['gateway']}"
    started.start("compressor", ["compressor-node", "--listen", addresses["compressor"]])
    started.start("decoder", ["decoder-node", "--listen", addresses["decoder"]])
    nodes = ["--compressor", f"http://{addresses['compressor']}", "--decoder", f"http://{addresses['decoder']}"]
    command = ["gateway", "--listen", addresses["gateway"], *nodes, "--data", str(folder / "data")]
    started.start("gateway", command)
    try:
        wait_ready(url)
        replay = Replay(folder, url)
        chance = random.Random(SEED)
        killed: list[str] = []
        finished = threading.Event()

        def kill_at_random() -> None:
            while _servers(killed) < KILLS and not finished.wait(chance.uniform(0.5, 6.0)):
                name = chance.choice(["gateway", "gateway", "compressor", "decoder", "worker"])
                if name == "worker":
                    if not _kill_worker(replay):
                        continue
                else:
                    started.kill(name)
                    finished.wait(chance.uniform(0.0, 1.5))
                    started.restart(name)
                killed.append(name)

        killer = threading.Thread(target=kill_at_random)
        killer.start()
        client = Client(url, retry=RetryPolicy(attempts=3))
        archive = SessionArchive(client, SESSION, replay.state)
        wrong, checked, unread = 0, 0, 0
        untold = 0
        for number, turn in enumerate(replay.turns, 1):
            replay.write(turn)
            replay.hook("Stop")
            replay.wait_done(4.0)
            untold += not _partitions(archive, replay)
            if number % 4 == 0 and archive.entries:
                entry = chance.choice(list(archive.entries))
                try:
                    checked += 1
                    wrong += archive.turn(entry.turn) != replay.source[entry.start : entry.end]
                except (C3Error, ArchiveError):
                    unread += 1  # The gateway or a node is down; the reads below must succeed.
        while killer.is_alive() and _servers(killed) < KILLS:
            replay.hook("Stop")
            replay.wait_done(1.0)
            time.sleep(0.5)
        killer.join()
        # Now the gateway is down for good: what is not archived is said.
        started.kill("gateway")
        replay.write(replay.turns[0])
        replay.hook("Stop")
        deadline = time.monotonic() + 60
        while not replay.status().get("error") and time.monotonic() < deadline:
            time.sleep(0.1)
        told = json.loads(replay.hook("SessionStart", source="compact"))["hookSpecificOutput"]["additionalContext"]
        is_told = "not archived yet" in told.lower() and "no gateway answers" in told
        untold += not _partitions(archive, replay)
        archived_then = list(archive.entries)
        started.restart("gateway")
        for name in ("compressor", "decoder"):
            if started.processes[name].poll() is not None:
                started.restart(name)
        wait_ready(url)
        lost = _wrong_turns(archive, archived_then, replay)
        replay.hook("SessionEnd", reason="exit")
        caught_up = replay.wait_done(CATCH_UP_SECONDS)
        whole = replay.transcript.read_bytes()
        later = list(archive.entries)[len(archived_then) :]
        lost += _wrong_turns(archive, later, replay)
        documents = {document.id for document in client.list(labels={"session": SESSION})}
        return {
            "kills_of_servers": _servers(killed),
            "kills_by_program": {name: killed.count(name) for name in sorted(set(killed))},
            "turns": len(replay.turns) + 1,
            "archived_before_catching_up": len(archived_then),
            "turns_archived": len(archive.entries),
            "turns_lost_or_wrong": lost + wrong,
            "reads_during_kills": checked,
            "reads_while_down": unread,
            "not_said_to_be_missing": untold,
            "missing_told_to_the_model": is_told,
            "caught_up": caught_up and archive.entries[-1].end == len(whole),
            "documents_without_entry": len(documents - {entry.id for entry in archive.entries}),
            "hook_delay_ms_max": round(1000 * max(replay.delays), 1),
        }
    finally:
        finished.set()
        started.stop()


def _servers(killed: list[str]) -> int:
    return sum(name != "worker" for name in killed)


def _kill_worker(replay: Replay) -> bool:
    try:
        pid = int((replay.state / SESSION / "worker.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    if b"c3serve.archive" not in command or str(replay.state).encode() not in command:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


def _partitions(archive: SessionArchive, replay: Replay) -> bool:
    """Returns whether each byte of the transcript is either in an archived turn or said to be missing."""
    missing = archive.missing(replay.transcript)
    at = missing[0].start if missing else replay.transcript.stat().st_size
    entries = [entry for entry in archive.entries if entry.start < at]
    ends = [0, *[one.end for one in entries], *[one.end for one in missing]]
    starts = [*[one.start for one in entries], *[one.start for one in missing], replay.transcript.stat().st_size]
    return ends == starts


def _wrong_turns(archive: SessionArchive, entries: list[Any], replay: Replay) -> int:
    whole = replay.transcript.read_bytes()
    wrong = 0
    for entry in entries:
        try:
            wrong += archive.turn(entry.turn) != whole[entry.start : entry.end]
        except (C3Error, ArchiveError) as error:
            print(f"turn {entry.turn}: {error}", file=sys.stderr)
            wrong += 1
    return wrong


def main() -> None:
    """Runs a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", choices=["session", "kills"])
    parser.add_argument("--programs", type=Path, required=True, help="folder of c3, gateway and the nodes")
    parser.add_argument("--each", type=int, default=1, help="recall only each Nth fact")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="c3-archive-") as folder:
        programs = arguments.programs.resolve()
        match arguments.measurement:
            case "session":
                values = session(Path(folder), programs, arguments.each)
            case _:
                values = kills(Path(folder), programs)
        print(json.dumps(values, ensure_ascii=False))


if __name__ == "__main__":
    main()
