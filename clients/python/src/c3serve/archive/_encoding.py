"""Text of the document that holds a turn.

A turn of a transcript in JSON Lines is written so that a person or a model can read and search it: strings with
escapes, and long ones, stand after their line as they are, without quotes and escapes. A marker takes the place of each
string:

    c3-archive/1 jsonl session=s1 turn=7
    {"type":"tool_use","name":"Bash","input":{"command":<34>}}
    git commit -m "fix the retry loop"

A marker is a list of parts, joined by `+`. Their texts, one after the other, are the string:

| part | text |
|---|---|
| `34` | the next 34 bytes after the line, which end with a newline of their own |
| `=2` | the string of the marker number 2 of this document, from 0 |
| `@ID:A-B` | the bytes A to B of the document ID |
| `j@ID:A-B`, `u@ID:A-B` | the same, escaped as in a JSON string; `u`: in ASCII |

A marker that begins with `u:` is quoted in ASCII. `decode` of `encode` gives the bytes of the turn, which `encode`
checks; a turn for which this does not hold is stored as it is (`text`), or in base64 if it is not UTF-8.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_MAGIC = "c3-archive/1"
_LITERAL = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|<(u:)?([^<>"]+)>')
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
_REFERENCE = re.compile(r"([ju]?)@([0-9a-f]{64}):(\d+)-(\d+)")
# Shorter strings without escapes are as readable inside of their line.
_LONG_CHARACTERS = 200
# A reference takes about 80 bytes.
_DUPLICATE_BYTES = 100
# Repeated strings of a session that are shorter are worth more where they are read than the bytes that they take.
_SHARED_BYTES = 512

Fetch = Callable[[str, int, int], bytes]


@dataclass(frozen=True)
class Reference:
    """Bytes of a stored document whose text occurs in a turn.

    Attributes:
        id: Id of the document, 64 hexadecimal digits.
        start: First byte.
        end: End, exclusive.
        text: The text of these bytes.
    """

    id: str
    start: int
    end: int
    text: str


@dataclass
class Encoded:
    """The text of a document, and the places of the strings to which later turns may refer."""

    text: bytes
    strings: list[tuple[str, int, int]] = field(default_factory=list)


def encode(
    turn: bytes,
    session: str,
    number: int,
    references: Sequence[Reference] = (),
    shared: Mapping[str, tuple[str, int, int]] | None = None,
) -> Encoded:
    """Returns the text of the document of a turn.

    Args:
        turn: Bytes of the transcript.
        session: Session, which is part of the text: equal turns of two sessions are two documents.
        number: Number of the turn.
        references: Texts that the turn repeats from other documents, and that the caller has compared.
        shared: Strings of earlier turns by `digest`: document, start and end.
    """

    def header(mode: str) -> bytes:
        return f"{_MAGIC} {mode} session={session} turn={number}\n".encode()

    try:
        encoder = _Encoder(header("jsonl"), references, shared or {})
        for line in _lines(turn.decode()):
            encoder.add(line)
        texts = {(one.id, one.start, one.end): one.text.encode() for one in references}
        texts.update(encoder.used)
        if decode(bytes(encoder.out), lambda id, start, end: texts[(id, start, end)]) == turn:
            return Encoded(bytes(encoder.out), encoder.strings)
        return Encoded(header("text") + turn)
    except UnicodeDecodeError:
        return Encoded(header("base64") + base64.encodebytes(turn))
    except ValueError:
        return Encoded(header("text") + turn)


def decode(text: bytes, fetch: Fetch) -> bytes:
    """Returns the bytes of the turn that a document holds.

    Args:
        text: The text of the document.
        fetch: Returns bytes of another document: id, start, end.

    Raises:
        ValueError: The text is not that of a turn.
    """
    head, _, body = text.partition(b"\n")
    match head.split(b" "):
        case [magic, b"jsonl", _, _] if magic == _MAGIC.encode():
            return _Decoder(body, fetch).decode()
        case [magic, b"text", _, _] if magic == _MAGIC.encode():
            return body
        case [magic, b"base64", _, _] if magic == _MAGIC.encode():
            return base64.decodebytes(body)
    raise ValueError("the document is not a turn of a session archive of this version")


def digest(value: bytes) -> str:
    """Returns the key of a string in `shared`."""
    return hashlib.sha256(value).hexdigest()[:32]


def _lines(text: str) -> list[str]:
    # Only a newline ends a line of JSON Lines.
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _escaped(text: str, style: str) -> str:
    return json.dumps(text, ensure_ascii=style == "u")[1:-1] if style else text


class _Encoder:
    def __init__(
        self, header: bytes, references: Sequence[Reference], shared: Mapping[str, tuple[str, int, int]]
    ) -> None:
        self.out = bytearray(header)
        self.strings: list[tuple[str, int, int]] = []
        self.used: dict[tuple[str, int, int], bytes] = {}
        self._shared = shared
        self._markers = 0
        self._seen: dict[str, int] = {}
        # The longest first, so that a text is not cut by a shorter one inside of it.
        found = sorted(references, key=lambda one: -len(one.text))
        self._forms = [(style, _escaped(one.text, style), one) for one in found for style in ("", "j", "u")]

    def add(self, line: str) -> None:
        if not line.startswith(("{", "[")):
            self.out += line.encode()
            return
        blocks: list[bytes] = []
        marked = _LITERAL.sub(lambda match: self._marker(match[0], blocks), line)
        ends = marked.endswith("\n")
        if blocks and not ends:
            raise ValueError("a line without its end has no blocks")
        self.out += marked.encode()
        for block in blocks:
            if len(block) >= _SHARED_BYTES:
                self.strings.append((digest(block), len(self.out), len(self.out) + len(block)))
            self.out += block + b"\n"

    def _marker(self, literal: str, blocks: list[bytes]) -> str:
        if "\\" not in literal and len(literal) < _LONG_CHARACTERS:
            return literal
        value = json.loads(literal)
        style = next((style for style in ("j", "u") if _escaped(value, style) == literal[1:-1]), None)
        if style is None or _CONTROL.search(value):
            return literal
        try:
            parts = "+".join(self._parts(value, blocks))
        except UnicodeEncodeError:  # Half of a surrogate pair.
            return literal
        self._markers += 1
        return f"<{'u:' if style == 'u' and not value.isascii() else ''}{parts}>"

    def _parts(self, value: str, blocks: list[bytes]) -> list[str]:
        data = value.encode()
        key = digest(data)
        if len(data) >= _DUPLICATE_BYTES and key in self._seen:
            return [f"={self._seen[key]}"]
        self._seen[key] = self._markers
        if key in self._shared:
            id, start, end = self._shared[key]
            self.used[(id, start, end)] = data
            return [f"@{id}:{start}-{end}"]
        parts: list[str] = []
        for piece in self._split(value):
            if isinstance(piece, str):
                blocks.append(piece.encode())
                parts.append(str(len(blocks[-1])))
            else:
                style, one = piece
                parts.append(f"{style}@{one.id}:{one.start}-{one.end}")
        return parts

    def _split(self, value: str) -> list[str | tuple[str, Reference]]:
        pieces: list[str | tuple[str, Reference]] = [value]
        for style, form, one in self._forms:
            cut: list[str | tuple[str, Reference]] = []
            for piece in pieces:
                while isinstance(piece, str) and form in piece:
                    before, _, piece = piece.partition(form)
                    cut += [before, (style, one)]
                cut.append(piece)
            pieces = cut
        return [piece for piece in pieces if piece]


class _Decoder:
    def __init__(self, body: bytes, fetch: Fetch) -> None:
        self._body = body
        self._fetch = fetch
        self._at = 0
        self._strings: list[str] = []

    def decode(self) -> bytes:
        out = bytearray()
        while self._at < len(self._body):
            end = self._body.find(b"\n", self._at) + 1 or len(self._body)
            line = self._body[self._at : end]
            self._at = end
            out += _TOKEN.sub(self._token, line) if line.startswith((b"{", b"[")) else line
        return bytes(out)

    def _token(self, match: re.Match[bytes]) -> bytes:
        if match[2] is None:
            return match[0]
        value = "".join(self._part(part) for part in match[2].decode().split("+"))
        self._strings.append(value)
        return json.dumps(value, ensure_ascii=match[1] is not None).encode()

    def _part(self, part: str) -> str:
        if part.isdecimal():
            block = self._body[self._at : self._at + int(part)]
            self._at += len(block) + 1
            return block.decode()
        if part.startswith("="):
            return self._strings[int(part[1:])]
        reference = _REFERENCE.fullmatch(part)
        if not reference:
            raise ValueError(f"the document has an unknown marker: {part[:80]}")
        style, id, start, end = reference.groups()
        return _escaped(self._fetch(id, int(start), int(end)).decode(), style)
