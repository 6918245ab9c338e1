"""Background worker of the hooks: archives what hooks ask for, and writes what the next hook tells the model.

A hook replaces `wanted.json` in the folder of its session and starts a worker. The worker archives up to the byte that
the file names, again until the file is unchanged. It writes `table.txt` and `status.json` after each turn, so that a
hook prints them without starting a heavy program. Then it takes up sessions whose worker had failed.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from .. import errors
from .._retry import RetryPolicy
from ..client import Client
from . import _journal
from ._journal import ArchiveBusy, ArchiveError, Entry
from ._session import SessionArchive

WANTED = "wanted.json"
STATUS = "status.json"
TABLE = "table.txt"
NEWEST = "worker.pid"
_RETRY_SECONDS = 600.0
_DELAY = 1.0
_DELAY_MAX = 30.0
_WORDS_OF_ERROR = 300
# A later attempt may succeed without any change by the user.
_TEMPORARY = (
    errors.ConnectionFailed,
    errors.Unavailable,
    errors.Overloaded,
    errors.InternalError,
    errors.DeadlineExceeded,
    errors.Conflict,
    httpx.HTTPError,
)


class Worker:
    """Archives sessions whose state is in one folder."""

    def __init__(self, folder: Path, gateway: str, ttl_seconds: int | None, tokens_max: int) -> None:
        """Creates a worker, which connects to `gateway` on first use."""
        self._folder = folder
        self._gateway = gateway
        self._ttl_seconds = ttl_seconds
        self._tokens_max = tokens_max
        # Longer waits are those of `run`, which says meanwhile what is missing.
        self._client = Client(gateway, retry=RetryPolicy(attempts=3))

    def run(self, session: str, retry_seconds: float = _RETRY_SECONDS) -> bool:
        """Archives a session, then others with a backlog. Returns whether all is archived."""
        newest = _journal.folder_of(self._folder, session) / NEWEST
        _journal.write_file(newest, str(os.getpid()))
        deadline = time.monotonic() + retry_seconds
        delay = _DELAY
        while (state := self._pass(session)) in ("busy", "retry"):
            # Of the workers that wait, the newest goes on: its environment may name another gateway.
            is_newest = newest.exists() and newest.read_text() == str(os.getpid())
            if not is_newest or time.monotonic() + delay > deadline:
                return False
            time.sleep(delay)
            delay = min(2 * delay, _DELAY_MAX) if state == "retry" else _DELAY
        states = [state, *map(self._pass, self._backlog(session))]
        return all(state == "done" for state in states)

    def _backlog(self, session: str) -> list[str]:
        found = []
        for path in sorted(self._folder.glob(f"*/{WANTED}")):
            wanted = read_json(path)
            other = wanted.get("session")
            if isinstance(other, str) and other != session and read_json(path.parent / STATUS).get("done") != wanted:
                found.append(other)
        return found

    def _pass(self, session: str) -> str:
        """Archives what is wanted. Returns "done", "busy", "retry" or "failed"."""
        archive = SessionArchive(self._client, session, self._folder, ttl_seconds=self._ttl_seconds)
        while True:
            wanted = read_json(archive.folder / WANTED)
            if not wanted or read_json(archive.folder / STATUS).get("done") == wanted:
                return "done"
            transcript, upto = str(wanted["transcript"]), int(wanted["upto"])
            # Keeps the last error in the status until a turn is stored.
            self._report(archive, wanted, read_json(archive.folder / STATUS).get("error"))
            try:
                archive.archive_new(transcript, upto=upto, on_turn=partial(self._report_turn, archive, wanted))
            except ArchiveBusy:
                return "busy"
            except (ArchiveError, errors.C3Error, httpx.HTTPError, OSError) as error:
                self._report(archive, wanted, self._advice(error))
                return "retry" if isinstance(error, _TEMPORARY) else "failed"
            self._report(archive, wanted, None, is_done=True)

    def _report_turn(self, archive: SessionArchive, wanted: dict[str, Any], _: Entry) -> None:
        self._report(archive, wanted, None)

    def _advice(self, error: Exception) -> str:
        text = " ".join(str(error).split())[:_WORDS_OF_ERROR]
        match error:
            case errors.ConnectionFailed():
                return (
                    f"no gateway answers at {self._gateway} ({text}): start it, for example with `c3 serve`, or set "
                    "C3_GATEWAY; the next turn tries again"
                )
            case errors.Unauthenticated() | errors.PermissionDenied():
                return f"the gateway refuses the key ({text}): set C3_API_KEY to a key that may read and write"
            case errors.C3Error() | httpx.HTTPError():
                return f"the gateway cannot store it now ({text}); the next turn tries again"
        return text

    def _report(
        self, archive: SessionArchive, wanted: dict[str, Any], error: str | None, is_done: bool = False
    ) -> None:
        entries = archive.entries
        status: dict[str, Any] = {
            "session": archive.session,
            "turns": len(entries),
            "archived": entries[-1].end if entries else 0,
            "missing": [],
            "error": error,
            "time": time.time(),
        }
        if is_done:
            status["done"] = wanted
        else:
            try:
                found = archive.missing(str(wanted["transcript"]))
                status["missing"] = [{"turn": one.turn, "words": one.words} for one in found if one.turn]
            except ArchiveError as problem:
                status["error"] = error or str(problem)
        if entries:
            _journal.write_file(archive.folder / TABLE, archive.table(self._tokens_max))
        _journal.write_file(archive.folder / STATUS, json.dumps(status, ensure_ascii=False))


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a file, or an empty one if there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def lower_priority() -> None:
    """Lets the agent and its tools go first."""
    try:
        os.nice(10)
    except OSError:
        pass
