"""The archive of a session."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .. import errors
from ..client import Client
from . import _encoding, _facts, _journal
from ._encoding import Reference
from ._journal import ArchiveError, Entry, Journal
from ._table import Missing, table

# A longer turn becomes several documents, so that a kill costs the work of one of them at most.
_TURN_BYTES_MAX = 128 << 10
_LABEL_BYTES = 200
_TABLE_TOKENS = 6000
# The gateway cannot give the range that the transcript claims, so the transcript's own copy is archived.
_NO_SUCH_TEXT = (
    errors.NotFound,
    errors.OutOfRange,
    errors.DataLoss,
    errors.InterruptedRead,
    errors.PermissionDenied,
    errors.InvalidRequest,
)

TranscriptPath = str | os.PathLike[str]


class SessionArchive:
    """Archive of a session's transcript: a document of C3 Serve for each turn, and a journal on this machine.

    Several processes may use the archive of a session; one at a time writes. A kill at any moment loses nothing.

    Example:
        >>> archive = SessionArchive(Client(), "session-1")  # doctest: +SKIP
        >>> archive.archive_new("transcript.jsonl")  # doctest: +SKIP
        >>> print(archive.table())  # doctest: +SKIP
    """

    def __init__(
        self,
        client: Client,
        session: str,
        folder: TranscriptPath | None = None,
        *,
        ttl_seconds: int | None = None,
    ) -> None:
        """Opens the archive of a session.

        Args:
            client: Client of the gateway.
            session: Id of the session.
            folder: Folder for the state of all sessions. None: C3_ARCHIVE_FOLDER, or a folder in XDG_STATE_HOME.
            ttl_seconds: Seconds after which a turn expires. None: never. Turns that expire contain no references to
                other documents.

        Raises:
            ArchiveError: The session's name is empty.
        """
        if not session:
            raise ArchiveError("the session has no name: give its id")
        self.session = session
        self.folder = _journal.folder_of(Path(folder) if folder is not None else _journal.default_folder(), session)
        self._client = client
        self._ttl_seconds = ttl_seconds
        self._journal = Journal(self.folder)

    @property
    def entries(self) -> Sequence[Entry]:
        """Returns the archived turns, in order."""
        self._journal.load()
        return tuple(self._journal.entries)

    # Writing.

    def archive_new(
        self,
        transcript: TranscriptPath,
        *,
        upto: int | None = None,
        on_turn: Callable[[Entry], None] | None = None,
    ) -> list[Entry]:
        """Archives the turns of a transcript in JSON Lines that are new since the last call.

        A turn ends before the next prompt of the user, or with the last complete line.

        Args:
            transcript: File of the transcript, which only grows.
            upto: Byte at which the new part ends. None: the end of the file.
            on_turn: Called after each turn that was archived.

        Returns:
            The new turns.

        Raises:
            ArchiveBusy: Another process archives this session.
            ArchiveError: The transcript was changed or is gone.
            C3Error: A turn could not be stored. Those before it are archived; the next call continues.
        """
        stored = []
        with self._journal.lock():
            self._check_prefix(transcript)
            for start, end, raw in self._new_parts(transcript, upto):
                stored.append(self._store(raw, start, end, None))
                if on_turn:
                    on_turn(stored[-1])
        return stored

    def append(self, text: str | bytes, *, kind: str | None = None) -> Entry:
        """Archives a turn of an agent that has no file of its transcript. A failed call may be repeated.

        Args:
            text: The turn, in any form; in JSON Lines, its strings are stored so that they can be searched.
            kind: Kind that the table shows. None: the tools that the turn used.

        Raises:
            ArchiveBusy: Another process archives this session.
            C3Error: The turn could not be stored.
        """
        raw = text.encode() if isinstance(text, str) else bytes(text)
        with self._journal.lock():
            start = self._journal.end
            return self._store(raw, start, start + len(raw), kind)

    def restore(self) -> int:
        """Writes the journal again from the store, if the state folder was lost. Returns the number of turns.

        Raises:
            ArchiveError: The journal has turns already, or the store lacks some.
        """
        with self._journal.lock():
            if self._journal.entries:
                raise ArchiveError(f"the journal in {self.folder} has turns: move it away first")
            documents = sorted(
                self._client.list(labels={"session": self._label}), key=lambda one: int(one.labels.get("turn", 0))
            )
            for document in documents:
                start, end = (int(document.labels.get(key, -1)) for key in ("start", "end"))
                if start != self._journal.end:
                    number = len(self._journal.entries) + 1
                    raise ArchiveError(f"the store lacks turn {number}: the turns before it are restored")
                raw = _encoding.decode(self._client.get_bytes(document.id), self._client.range)
                self._journal.write_stored(self._entry(raw, start, end, document.id, document.bytes, None, ()))
            return len(documents)

    def _store(self, raw: bytes, start: int, end: int, kind: str | None) -> Entry:
        number = len(self._journal.entries) + 1
        may_refer = self._ttl_seconds is None
        references = list(self._verified(_facts.repeated(raw))) if may_refer else []
        shared = self._shared() if may_refer else {}
        encoded = _encoding.encode(raw, self._label, number, references, shared)
        labels = {
            "session": self._label,
            "turn": str(number),
            "start": str(start),
            "end": str(end),
            "kind": "transcript",
        }
        if self._journal.entries:
            labels["previous"] = self._journal.entries[-1].id
        if self._journal.plan != (start, end):
            self._journal.write_plan(start, end)
        id = self._client.put(encoded.text, labels=labels, ttl_seconds=self._ttl_seconds).id
        entry = self._entry(raw, start, end, id, len(encoded.text), kind, encoded.strings)
        self._journal.write_stored(entry)
        return entry

    def _entry(
        self,
        raw: bytes,
        start: int,
        end: int,
        id: str,
        size: int,
        kind: str | None,
        strings: Sequence[tuple[str, int, int]],
    ) -> Entry:
        facts = _facts.of_turn(raw)
        return Entry(
            turn=len(self._journal.entries) + 1,
            start=start,
            end=end,
            sha256=hashlib.sha256(raw).hexdigest(),
            id=id,
            bytes=size,
            kind=kind or facts.kind,
            words=facts.words,
            commands=facts.commands,
            paths=facts.paths,
            numbers=facts.numbers,
            strings=tuple(strings),
        )

    def _verified(self, claims: Sequence[Reference]) -> Iterator[Reference]:
        """Iterates over the claims that the gateway confirms, with the exact ranges of their texts."""
        lasting: dict[str, bool] = {}
        for claim in claims:
            try:
                if claim.id not in lasting:
                    lasting[claim.id] = self._client.stat(claim.id).expires is None
                if not lasting[claim.id]:
                    continue
                data = self._client.range(claim.id, claim.start, claim.end)
                text = claim.text.encode()
            except (*_NO_SUCH_TEXT, UnicodeEncodeError):
                continue
            at = data.find(text)
            if at >= 0:
                start = claim.start + at
                yield Reference(claim.id, start, start + len(text), claim.text)

    def _shared(self) -> dict[str, tuple[str, int, int]]:
        entries = self._journal.entries
        return {key: (entry.id, start, end) for entry in reversed(entries) for key, start, end in entry.strings}

    # The transcript.

    def _new_parts(self, transcript: TranscriptPath, upto: int | None) -> list[tuple[int, int, bytes]]:
        start = self._journal.end
        data = _read(transcript, start, upto)
        planned = self._journal.plan
        if planned and planned[0] == start and planned[1] - start <= len(data):
            end = planned[1] - start
            rest = _split(data[end:], planned[1])
            return [(*planned, data[:end]), *rest]
        return _split(data, start)

    def _check_prefix(self, transcript: TranscriptPath) -> None:
        if not self._journal.entries:
            return
        last = self._journal.entries[-1]
        if hashlib.sha256(_read(transcript, last.start, last.end)).hexdigest() != last.sha256:
            raise ArchiveError(
                f"the transcript {os.fspath(transcript)} was changed before byte {last.end}, which is archived: "
                "archive it as another session"
            )

    def missing(
        self, transcript: TranscriptPath, *, reason: str = "work continues in the background"
    ) -> Sequence[Missing]:
        """Returns the parts of a transcript that are not archived, with the reason that the caller knows."""
        self._journal.load()
        start = self._journal.end
        data = _read(transcript, start, None)
        number = len(self._journal.entries) + 1
        parts = _split(data, start)
        found = [
            Missing(number + at, first, last, _facts.first_words(raw), reason)
            for at, (first, last, raw) in enumerate(parts)
        ]
        done = parts[-1][1] if parts else start
        if done < start + len(data):
            found.append(Missing(0, done, start + len(data), "", "the line is still being written"))
        return found

    # Reading.

    def turn(self, number: int) -> bytes:
        """Returns the bytes of the transcript that are turn `number`, checked against their hash.

        Raises:
            ArchiveError: There is no such turn, or its document or one that it refers to was deleted.
            C3Error: The gateway cannot read it now.
        """
        entries = self.entries
        if not 1 <= number <= len(entries):
            raise ArchiveError(f"turn {number} is not archived: there are {len(entries)} turns")
        entry = entries[number - 1]
        try:
            raw = _encoding.decode(self._client.get_bytes(entry.id), self._client.range)
        except errors.NotFound as error:
            raise ArchiveError(f"turn {number} cannot be read, because a document was deleted: {error}") from error
        if hashlib.sha256(raw).hexdigest() != entry.sha256:
            raise ArchiveError(f"turn {number} differs from its hash: check the store with `c3 fsck`")
        return raw

    def table(self, tokens_max: int = _TABLE_TOKENS, missing: Sequence[Missing] = ()) -> str:
        """Returns the table of handles for the context of a model, at most about `tokens_max` tokens long."""
        return table(self._label, self.entries, missing, tokens_max)

    @property
    def _label(self) -> str:
        # A label has at most 256 bytes and no control characters. The text of a turn begins with a line that has it.
        plain = self.session.isprintable() and " " not in self.session and len(self.session.encode()) <= _LABEL_BYTES
        return self.session if plain else "h-" + hashlib.sha256(self.session.encode()).hexdigest()[:40]


def _read(transcript: TranscriptPath, start: int, upto: int | None) -> bytes:
    try:
        with open(transcript, "rb") as file:
            file.seek(start)
            return file.read() if upto is None else file.read(max(0, upto - start))
    except OSError as error:
        path = os.fspath(transcript)
        raise ArchiveError(f"the transcript {path} cannot be read: {error.strerror}; what is archived stays") from error


def _split(data: bytes, start: int) -> list[tuple[int, int, bytes]]:
    """Splits the complete lines of a part of a transcript that begins at byte `start` into turns."""
    turns: list[tuple[int, int, bytes]] = []
    first = at = 0
    has_prompt = False
    while (newline := data.find(b"\n", at)) >= 0:
        line = data[at : newline + 1]
        prompts = _facts.is_prompt(line)
        if at > first and ((prompts and has_prompt) or newline + 1 - first > _TURN_BYTES_MAX):
            turns.append((start + first, start + at, data[first:at]))
            first, has_prompt = at, False
        has_prompt |= prompts
        at = newline + 1
    if at > first:
        turns.append((start + first, start + at, data[first:at]))
    return turns
