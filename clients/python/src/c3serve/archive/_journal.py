"""State of a session on the client: a journal of its turns, a lock, and a summary for hooks.

The journal is appended to and synchronised with the disk. An entry `plan` precedes the put of a turn, so that a worker
that continues after a kill stores exactly the same turn again, which is idempotent. An entry `stored` follows the put.
The files contain words of the transcript, so only their owner may read them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

VERSION = 1
_NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)


class ArchiveError(Exception):
    """The archive cannot go on. The message says what to do."""


class ArchiveBusy(ArchiveError):
    """Another process archives this session."""


@dataclass(frozen=True)
class Entry:
    """A turn that is archived.

    Attributes:
        turn: Number of the turn, from 1.
        start: First byte of the turn in the transcript.
        end: End of the turn in the transcript, exclusive.
        sha256: Hash of these bytes.
        id: Id of the document with the turn.
        bytes: Size of the document.
        kind: Tools that the turn used, or the kind that the caller gave.
        words: First words of the prompt.
        commands: Commands, without repetitions.
        paths: Paths of files.
        numbers: Numbers with their units.
        strings: Long strings, to which later turns may refer: hash, start and end in the document.
    """

    turn: int
    start: int
    end: int
    sha256: str
    id: str
    bytes: int
    kind: str
    words: str
    commands: tuple[str, ...]
    paths: tuple[str, ...]
    numbers: tuple[str, ...]
    strings: tuple[tuple[str, int, int], ...]

    @property
    def handle(self) -> str:
        """Returns the beginning of the id by which the tools name the document."""
        return self.id[:12]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Entry:
        """Creates an entry from a line of the journal. Ignores unknown members."""
        known = {one.name: body[one.name] for one in fields(cls)}
        for key in ("commands", "paths", "numbers"):
            known[key] = tuple(known[key])
        known["strings"] = tuple((key, start, end) for key, start, end in known["strings"])
        return cls(**known)


def default_folder() -> Path:
    """Returns the folder of the state: C3_ARCHIVE_FOLDER, or a folder in XDG_STATE_HOME."""
    given = os.environ.get("C3_ARCHIVE_FOLDER")
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "c3serve" / "archive"


def folder_of(folder: Path, session: str) -> Path:
    """Returns the folder of a session."""
    safe = _NAME.fullmatch(session)
    return folder / (session if safe else "h-" + hashlib.sha256(session.encode()).hexdigest()[:40])


class Journal:
    """Journal of a session."""

    def __init__(self, folder: Path) -> None:
        """Opens the journal in `folder`, which is created on the first write."""
        self.folder = folder
        self.entries: list[Entry] = []
        self.plan: tuple[int, int] | None = None
        self._path = folder / "journal.jsonl"
        self._read = 0
        self.load()

    @property
    def end(self) -> int:
        """Returns the byte of the transcript up to which it is archived."""
        return self.entries[-1].end if self.entries else 0

    def load(self) -> None:
        """Reads what other processes have appended. The lines of a kill, which have no end, are ignored."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._apply(json.loads(line))

    def _apply(self, body: Mapping[str, Any]) -> None:
        if body["v"] != VERSION:
            raise ArchiveError(f"{self._path} is of another version: install a newer c3serve, or move the file away")
        match body["event"]:
            case "plan":
                self.plan = (body["start"], body["end"])
            case "stored":
                self.entries.append(Entry.from_json(body))
                self.plan = None

    def write_plan(self, start: int, end: int) -> None:
        """Records that the bytes `start` to `end` of the transcript become the next turn."""
        self._append({"event": "plan", "start": start, "end": end})

    def write_stored(self, entry: Entry) -> None:
        """Records that a turn is archived."""
        self._append({"event": "stored", **asdict(entry)})

    def _append(self, body: Mapping[str, Any]) -> None:
        line = json.dumps({"v": VERSION, **body}, ensure_ascii=False) + "\n"
        created = not self._path.exists()
        with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            # Removes the end of a line that a kill has cut.
            file.truncate(self._read)
            file.seek(self._read)
            file.write(line.encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
        if created:
            _sync_folder(self.folder)
        self.load()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the lock with which one process at a time archives a session. The kernel frees it after a kill.

        Raises:
            ArchiveBusy: Another process holds it.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ArchiveBusy("another process archives this session: wait until it is done") from None
        try:
            self.load()
            yield
        finally:
            os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Replaces a file, so that readers see the old or the new text."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
