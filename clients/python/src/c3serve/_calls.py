"""Requests and responses of the HTTP API, independent of the way in which they are sent."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Generic, TypeAlias, TypeVar, cast
from urllib.parse import quote

import httpx

from . import errors
from .latents import Latents
from .models import Document, Labels, Name, ReindexJob, SearchPage, Stored

T = TypeVar("T")

Text: TypeAlias = "str | bytes | os.PathLike[str] | IO[bytes] | Iterable[bytes | str]"
AsyncText: TypeAlias = "Text | AsyncIterable[bytes | str]"

_PIECE_BYTES = 64 << 10
EVENTS = "text/event-stream"


@dataclass
class Source:
    """A body that is sent, and sent again if the call is repeated.

    Attributes:
        pieces: Returns the pieces of the body, from its start.
        repeatable: Whether `pieces` may be called again.
        size: Size in bytes, or None if unknown.
    """

    pieces: Callable[[], bytes | Iterable[bytes] | AsyncIterable[bytes]]
    repeatable: bool = True
    size: int | None = None
    used: bool = False

    def open(self) -> bytes | Iterable[bytes] | AsyncIterable[bytes]:
        """Returns the pieces of the body, from its start."""
        self.used = True
        return self.pieces()


def source_of(text: AsyncText) -> Source:
    """Returns the body with a text: a `str` or `bytes` is the text, a path names a file."""
    if isinstance(text, str):
        data = text.encode()
        return Source(lambda: data, size=len(data))
    if isinstance(text, (bytes, bytearray, memoryview)):
        content = bytes(text)
        return Source(lambda: content, size=len(content))
    if isinstance(text, os.PathLike):
        path = os.fspath(text)
        return Source(lambda: _file_pieces(open(path, "rb"), close=True), size=os.stat(path).st_size)
    if hasattr(text, "read"):
        return _source_of_file(cast("IO[bytes]", text))
    if hasattr(text, "__aiter__"):
        pieces = cast("AsyncIterable[bytes | str]", text)
        return Source(lambda: _encoded_async(pieces), repeatable=False)
    parts: Iterable[bytes | str] = text
    # A list can be sent again, an iterator cannot.
    return Source(lambda: (_encoded(piece) for piece in parts), repeatable=not isinstance(parts, Iterator))


def _source_of_file(file: IO[bytes]) -> Source:
    try:
        start = file.tell() if file.seekable() else None
    except (AttributeError, OSError):
        start = None

    def pieces() -> Iterable[bytes]:
        if start is not None:
            file.seek(start)
        return _file_pieces(file, close=False)

    return Source(pieces, repeatable=start is not None)


def _file_pieces(file: IO[bytes], close: bool) -> Iterator[bytes]:
    try:
        while piece := file.read(_PIECE_BYTES):
            yield _encoded(piece)
    finally:
        if close:
            file.close()


def _encoded(piece: bytes | str) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)


async def _encoded_async(pieces: AsyncIterable[bytes | str]) -> Any:
    async for piece in pieces:
        yield _encoded(piece)


@dataclass
class Call(Generic[T]):
    """A request, and the meaning of its response.

    Attributes:
        repeatable: Whether the call may be repeated if its response was lost. A call that the gateway refused is always
            repeated.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Source | None = None
    repeatable: bool = True

    def may_repeat(self, was_refused: bool) -> bool:
        """Returns whether the call may be sent again. `was_refused`: the gateway did not process it."""
        can_send = self.body is None or self.body.repeatable or not self.body.used
        return can_send and (self.repeatable or was_refused)


def path_of(ref: str, part: str = "") -> str:
    """Returns the path of a document."""
    return f"/v1/documents/{quote(ref, safe='@')}{part}"


def _json(parse: Callable[[Any], T]) -> Callable[[httpx.Response], T]:
    return lambda response: parse(response.json())


def _body(value: Any) -> Source:
    data = json.dumps(value).encode()
    return Source(lambda: data)


_JSON = {"content-type": "application/json"}
_BYTES = {"content-type": "application/octet-stream"}
_TEXT = {"content-type": "text/plain; charset=utf-8"}


def write_params(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the query parameters of a write. Leaves out options that are None."""
    params = {key: value for key, value in options.items() if value is not None and key != "labels"}
    for option in ("verify", "search"):
        if option in params:
            params[option] = "true" if params[option] else "false"
    if params.get("name_token") == "":
        params["name_token"] = "none"
    labels = options.get("labels")
    if labels:
        params["label"] = [f"{key}={value}" for key, value in labels.items()]
    return params


def write(path: str, text: AsyncText, options: Mapping[str, Any], events: bool) -> Call[Stored]:
    """Returns the call of a put or append."""
    headers = {**_TEXT, **({"accept": EVENTS} if events else {})}
    source = source_of(text)
    # With a precondition on the name, a repeated call could see its own first attempt as a conflict.
    repeatable = options.get("name_token") is None
    return Call("POST", path, _json(Stored.from_json), write_params(options), headers, source, repeatable=repeatable)


def recode(ref: str, options: Mapping[str, Any]) -> Call[Stored]:
    """Returns the call of a recode."""
    given = {key: value for key, value in options.items() if value is not None}
    return Call("POST", path_of(ref, "/recode"), _json(Stored.from_json), headers=_JSON, body=_body(given))


def stat(ref: str) -> Call[Document]:
    """Returns the call that describes a document."""
    return Call("GET", path_of(ref), _json(Document.from_json))


def delete(ref: str) -> Call[str]:
    """Returns the call that deletes a document."""
    return Call("DELETE", path_of(ref), lambda response: str(response.json()["id"]), repeatable=False)


def search(members: Mapping[str, Any]) -> Call[SearchPage]:
    """Returns the call of a search. Leaves out members that are None."""
    given = {key: value for key, value in members.items() if value is not None and key != "label"}
    return Call("POST", "/v1/search", _json(SearchPage.from_json), headers=_JSON, body=_body(given))


def reindex(ref: str) -> Call[int]:
    """Returns the call that lets search find a document."""
    return Call("POST", path_of(ref, "/reindex"), lambda response: int(response.json()["windows"]))


def start_reindex() -> Call[ReindexJob]:
    """Returns the call that starts the reindex job, or joins it."""
    return Call("POST", "/v1/reindex", _json(ReindexJob.from_json))


def reindex_job() -> Call[ReindexJob]:
    """Returns the call that reads the state of the reindex job."""
    return Call("GET", "/v1/reindex", _json(ReindexJob.from_json))


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of a list."""

    entries: list[T]
    next_cursor: str | None


def list_documents(params: Mapping[str, Any]) -> Call[Page[Document]]:
    """Returns the call of a page of documents."""

    def parse(body: Mapping[str, Any]) -> Page[Document]:
        return Page([Document.from_json(one) for one in body["documents"]], body["next_cursor"])

    return Call("GET", "/v1/documents", _json(parse), _given(params))


def list_names(params: Mapping[str, Any]) -> Call[Page[Name]]:
    """Returns the call of a page of names."""

    def parse(body: Mapping[str, Any]) -> Page[Name]:
        return Page([Name.from_json(one) for one in body["names"]], body["next_cursor"])

    return Call("GET", "/v1/names", _json(parse), _given(params))


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None and value != ""}


def list_params(
    name_prefix: str | None,
    namespace: str | None,
    labels: Mapping[str, str] | None,
    times: tuple[Any, Any],
    limit: int,
) -> dict[str, Any]:
    """Returns the filters of a list of documents."""
    created_from, created_before = (None if time is None else time.isoformat() for time in times)
    label = [f"{key}={value}" for key, value in (labels or {}).items()] or None
    return {
        "name_prefix": name_prefix,
        "namespace": namespace,
        "label": label,
        "created_from": created_from,
        "created_before": created_before,
        "limit": limit,
    }


def _name_path(name: str) -> str:
    namespace, separator, rest = name.removeprefix("@").partition("/")
    if not separator:
        namespace, rest = "default", namespace
    return f"/v1/names/{quote(namespace, safe='')}/{quote(rest, safe='/')}"


def precondition(token: str | None) -> dict[str, str]:
    """Returns the header of a precondition. None: no precondition; empty: there must be no value."""
    if token is None:
        return {}
    return {"if-match": f'"{token}"'} if token else {"if-none-match": "*"}


def get_name(name: str) -> Call[Name]:
    """Returns the call that looks up a name."""
    return Call("GET", _name_path(name), _json(Name.from_json))


def set_name(name: str, ref: str, token: str | None) -> Call[Name]:
    """Returns the call that points a name at a document."""
    headers = {**_JSON, **precondition(token)}
    body = _body({"id": ref})
    return Call("PUT", _name_path(name), _json(Name.from_json), headers=headers, body=body, repeatable=token is None)


def remove_name(name: str, token: str | None) -> Call[str]:
    """Returns the call that removes a name."""
    headers = precondition(token)
    path = _name_path(name)
    return Call("DELETE", path, lambda response: str(response.json()["id"]), headers=headers, repeatable=False)


def get_labels(ref: str) -> Call[Labels]:
    """Returns the call that reads labels."""
    return Call("GET", path_of(ref, "/labels"), _json(Labels.from_json))


def set_labels(ref: str, labels: Mapping[str, str], token: str | None) -> Call[Labels]:
    """Returns the call that replaces labels."""
    headers = {**_JSON, **precondition(token)}
    path = path_of(ref, "/labels")
    repeatable = token is None
    return Call("PUT", path, _json(Labels.from_json), headers=headers, body=_body(dict(labels)), repeatable=repeatable)


def update_labels(ref: str, changes: Mapping[str, str | None], token: str | None) -> Call[Labels]:
    """Returns the call that changes labels."""
    headers = {**_JSON, **precondition(token)}
    path = path_of(ref, "/labels")
    body = _body(dict(changes))
    return Call("PATCH", path, _json(Labels.from_json), headers=headers, body=body, repeatable=token is None)


def latents(ref: str, dtype: str) -> Call[Latents]:
    """Returns the call that exports latents."""
    return Call("GET", path_of(ref, "/latents"), lambda response: Latents(response.content), {"dtype": dtype})


def put_latents(file: bytes) -> Call[Document]:
    """Returns the call that imports latents."""
    source = source_of(file)
    return Call("POST", "/v1/latents", _json(Document.from_json), headers=_BYTES, body=source)


def compress(text: AsyncText, options: Mapping[str, Any]) -> Call[Latents]:
    """Returns the call that compresses a text without storing it."""
    source = source_of(text)
    params = write_params(options)
    return Call("POST", "/v1/compress", lambda response: Latents(response.content), params, _TEXT, source)


def decompress(file: bytes, prompt: str | None, tokens_max: int | None) -> Call[str]:
    """Returns the call that decompresses latents without storing anything."""
    params = _given({"prompt": prompt, "tokens_max": tokens_max})
    path = "/v1/decompress"
    return Call("POST", path, lambda response: response.content.decode(), params, _BYTES, source_of(file))


def get_json(path: str) -> Call[Any]:
    """Returns a call whose response is passed on as it is."""
    return Call("GET", path, lambda response: response.json())


def raise_for_problem(response: httpx.Response) -> None:
    """Raises the exception of an error response, whose body must have been read."""
    if response.status_code < 400:
        return
    try:
        members = response.json()
    except ValueError:
        members = {"detail": response.text[:500] or f"HTTP status {response.status_code}"}
    if not isinstance(members, dict):
        members = {"detail": str(members)}
    try:
        retry_after = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        retry_after = None
    raise errors.error_of(response.status_code, members, retry_after)


class EventParser:
    """Parses server-sent events line by line."""

    def __init__(self) -> None:
        """Creates a parser at the start of a stream."""
        self._event = "message"
        self._data: list[str] = []

    def feed(self, line: str) -> tuple[str, Any] | None:
        """Returns the event that ends with this line, as its name and its JSON data; else None."""
        if not line:
            event, data = self._event, self._data
            self._event, self._data = "message", []
            return (event, json.loads("\n".join(data))) if data else None
        name, _, value = line.partition(":")
        if name == "event":
            self._event = value.removeprefix(" ")
        elif name == "data":
            self._data.append(value.removeprefix(" "))
        return None
