"""The asynchronous client: the methods of `Client` as coroutines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from . import _calls, _tls, errors
from ._calls import AsyncText, Call
from ._credentials import Credentials
from ._retry import TRANSPORT_ERRORS, Attempts, Gateways, RetryPolicy
from .latents import Latents
from .models import Document, Labels, Name, Progress, ReindexJob, SearchPage, Stored

T = TypeVar("T")

# Puts and reads of long texts take minutes, in which the gateway may send nothing for a while.
_HTTP_TIMEOUT = httpx.Timeout(300.0, connect=5.0)


class AsyncClient:
    """Client of one or several gateways, for asyncio.

    Calls that fail because a gateway is full or unreachable are retried, on another gateway if there is one.

    Example:
        >>> async with AsyncClient("http://127.0.0.1:7300") as c3:  # doctest: +SKIP
        ...     await c3.get((await c3.put("Nothing in the world is as soft as water.")).id)
    """

    def __init__(
        self,
        gateway: str | Sequence[str] = "http://127.0.0.1:7300",
        *,
        api_key: str | None = None,
        api_key_over_http: bool = False,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        ca: str | Path | None = None,
        cert: str | Path | tuple[str | Path, str | Path] | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """Creates a client, which connects on first use.

        Args:
            gateway: URL of a gateway, several URLs separated by commas, or a sequence of URLs.
            api_key: API key or token for the gateway. None: the environment variable C3_API_KEY, if it is set.
            api_key_over_http: Whether the key may be sent unencrypted to another machine.
            timeout: Maximum seconds of a call, including its retries. Gateways and nodes stop working on a call that
                exceeds it. None: no limit.
            retry: Limits of retries.
            ca: File of the CAs, in PEM, that verify https:// gateways. None: the variable C3_TLS_CA, or the system's
                CAs.
            cert: Files of the client's certificate and key in PEM, or one file with both. None: the variables
                C3_TLS_CERT and C3_TLS_KEY, or no certificate.
            http: HTTP client with other settings, such as a proxy. It is not closed with this client. `ca` and `cert`
                have no effect on it.
        """
        self._gateways = Gateways(gateway)
        self._credentials = Credentials(api_key, self._gateways.urls, api_key_over_http)
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._owned = http is None
        self._http = http or httpx.AsyncClient(timeout=_HTTP_TIMEOUT, verify=_tls.context(ca, cert))

    async def __aenter__(self) -> AsyncClient:
        """Returns the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the client."""
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        if self._owned:
            await self._http.aclose()

    # Writes.

    async def put(
        self,
        text: AsyncText,
        *,
        name: str | None = None,
        name_token: str | None = None,
        labels: Mapping[str, str] | None = None,
        ratio: int | str | None = None,
        fidelity_min: float | None = None,
        stored_bytes_max: int | None = None,
        codec: str | None = None,
        verify: bool | None = None,
        search: bool | None = None,
        margin: float | None = None,
        ttl_seconds: int | None = None,
        upload: str | None = None,
        base: str | None = None,
        append_to: str | None = None,
        cascade: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Stored:
        """Stores a text. Storing the same text again gives the same document.

        Args:
            text: The text as str or bytes, the path of a file, a binary file, or an iterable of pieces. An iterator is
                sent once, so a call with one is not retried after it was read.
            name: Name to give the document: NAME or NAMESPACE/NAME.
            name_token: Version token that the name must have; empty: the name must not exist.
            labels: Labels to set.
            ratio: AsyncText tokens per latent, or "auto" with one of the two bounds.
            fidelity_min: With ratio "auto": minimum fidelity.
            stored_bytes_max: With ratio "auto": maximum stored bytes.
            codec: "f32", "bf16", "q8_0" or "q4_0".
            verify: False skips the verification; reads may then fail.
            search: False leaves the document out of search.
            margin: Minimum lead, in logits, of a token without a correction.
            ttl_seconds: Seconds after which the document expires.
            upload: Name under which an interrupted put is resumed by the same call.
            base: Id of a stored document of which the text is an edited version.
            append_to: Id of a stored document to whose text this one is appended.
            cascade: Name of the model, if several are served.
            progress: Called while the text is stored.

        Returns:
            The document and how it was stored.
        """
        options = {
            "name": name,
            "name_token": name_token,
            "labels": labels,
            "ratio": ratio,
            "fidelity_min": fidelity_min,
            "stored_bytes_max": stored_bytes_max,
            "codec": codec,
            "verify": verify,
            "search": search,
            "margin": margin,
            "ttl_seconds": ttl_seconds,
            "upload": upload,
            "base": base,
            "append_to": append_to,
            "cascade": cascade,
        }
        return await self._write("/v1/documents", text, options, progress)

    async def append(
        self, ref: str, text: AsyncText, *, progress: Callable[[Progress], None] | None = None, **options: Any
    ) -> Stored:
        """Stores the text of a document followed by `text` as a new document.

        Args:
            ref: Id, unique prefix of the id, or @NAME.
            text: As in `put`.
            progress: As in `put`.
            **options: `name`, `name_token`, `labels`, `ttl_seconds` and `upload` as in `put`.
        """
        return await self._write(_calls.path_of(ref, "/append"), text, options, progress)

    async def recode(self, ref: str, **options: Any) -> Stored:
        """Writes a document again; options: `ratio`, `codec`, `verify`, `margin`, `ttl_seconds`, `cascade`."""
        return await self._call(_calls.recode(ref, options))

    async def put_many(self, texts: Iterable[AsyncText], *, concurrency: int = 8, **options: Any) -> Sequence[Stored]:
        """Stores several texts concurrently. Returns the results in order, or raises the first error."""
        return await _gather((self.put(text, **options) for text in texts), concurrency)

    # Reads.

    async def get(self, ref: str) -> str:
        """Returns the text of a document.

        Args:
            ref: Id, unique prefix of the id, or @NAME.
        """
        return (await self.get_bytes(ref)).decode()

    async def get_bytes(self, ref: str) -> bytes:
        """Returns the bytes of a document. An interrupted download is resumed."""
        async with self.stream(ref) as pieces:
            return b"".join([piece async for piece in pieces])

    async def get_many(self, refs: Iterable[str], *, concurrency: int = 8) -> Sequence[str]:
        """Returns the texts of several documents, read concurrently, in order."""
        return await _gather((self.get(ref) for ref in refs), concurrency)

    async def range(self, ref: str, start: int = 0, end: int | None = None) -> bytes:
        """Returns the bytes `start` to `end`, exclusive, of a document.

        Raises:
            OutOfRange: `start` is not before the end of the document.
        """
        if end is not None and end <= start:
            return b""
        async with self.stream(ref, start=start, end=end) as pieces:
            return b"".join([piece async for piece in pieces])

    async def lines(self, ref: str, first: int, last: int | None = None) -> str:
        """Returns the lines `first` to `last`, inclusive, of a document. The first line is 1.

        Raises:
            OutOfRange: The document has fewer than `first` lines.
        """
        lines = f"{first}-{'' if last is None else last}"
        path = _calls.path_of(ref, "/text")
        return await self._call(Call("GET", path, lambda response: response.content.decode(), {"lines": lines}))

    @asynccontextmanager
    async def stream(self, ref: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Streams the bytes of a document. An interrupted download is resumed at the byte where it stopped.

        Example:
            >>> async with c3.stream("@book") as pieces:  # doctest: +SKIP
            ...     async for piece in pieces:
            ...         sys.stdout.buffer.write(piece)
        """
        pieces = self._pieces(_calls.path_of(ref, "/text"), start, end)
        try:
            yield pieces
        finally:
            await pieces.aclose()

    async def _pieces(self, path: str, start: int, end: int | None) -> Any:
        attempts = Attempts.begin(self._retry, self._gateways, self._timeout)
        at, etag = start, None
        while True:
            url = self._gateways.current()
            headers = self._headers(attempts)
            if at or end is not None:
                headers["range"] = f"bytes={at}-{'' if end is None else end - 1}"
            if etag:
                headers["if-range"] = etag
            try:
                async with self._http.stream("GET", url + path, headers=headers) as response:
                    if response.status_code >= 400:
                        await response.aread()
                        _calls.raise_for_problem(response)
                    if at and response.status_code != 206:
                        raise errors.InterruptedRead(f"the document of {path} was replaced during the download")
                    etag = response.headers.get("etag")
                    async for piece in response.aiter_raw():
                        at += len(piece)
                        attempts.made = 0
                        yield piece
                    return
            except (errors.ApiError, *TRANSPORT_ERRORS) as error:
                await asyncio.sleep(attempts.after(error, url, True, True))

    async def stat(self, ref: str) -> Document:
        """Describes a document, with its labels."""
        return await self._call(_calls.stat(ref))

    async def exists(self, ref: str) -> bool:
        """Returns whether a document or name exists."""
        try:
            await self.stat(ref)
        except errors.NotFound:
            return False
        return True

    def list(
        self,
        *,
        name_prefix: str | None = None,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        created_from: Any = None,
        created_before: Any = None,
        page_size: int = 1000,
    ) -> AsyncIterator[Document]:
        """Iterates over documents in the order of ids.

        Args:
            name_prefix: Beginning of a name that the documents must have.
            namespace: Namespace of that name.
            labels: Labels that the documents must have.
            created_from: Earliest time of creation, a datetime with a time zone.
            created_before: Time before which the documents were created.
            page_size: Documents that are requested at once.
        """
        times = (created_from, created_before)
        params = _calls.list_params(name_prefix, namespace, labels, times, page_size)
        return self._all(_calls.list_documents, params)

    async def search(
        self,
        query: str,
        *,
        exact: bool = False,
        documents: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        name_prefix: str | None = None,
        namespace: str | None = None,
        created_from: Any = None,
        created_before: Any = None,
        limit: int = 10,
        cursor: str | None = None,
        snippet_bytes: int = 0,
    ) -> SearchPage:
        """Searches for windows by their words. A window is a part of a document of about two kilobytes.

        Args:
            query: Words, with "quoted phrases" that must occur.
            exact: Whether windows must contain exactly the text of the query.
            documents: Only these documents: ids, unique prefixes of ids, or @NAMEs. Empty: all.
            labels: Labels that the documents must have.
            name_prefix: Beginning of a name that the documents must have.
            namespace: Namespace of that name.
            created_from: Earliest time of creation, a datetime with a time zone.
            created_before: Time before which the documents were created.
            limit: Maximum number of hits, up to 100.
            cursor: `next_cursor` of the page before.
            snippet_bytes: Maximum bytes of each snippet; 0: no snippets, so nothing is decoded.

        Returns:
            A page of hits, the best first.
        """
        filters = _calls.list_params(name_prefix, namespace, None, (created_from, created_before), limit)
        body = {**filters, "query": query, "exact": exact, "documents": list(documents), "labels": dict(labels or {})}
        return await self._call(_calls.search({**body, "cursor": cursor, "snippet_bytes": snippet_bytes}))

    async def reindex(self, ref: str) -> int:
        """Lets search find a document that was stored without it. Returns the number of windows that are new to it."""
        return await self._call(_calls.reindex(ref))

    async def start_reindex(self) -> ReindexJob:
        """Starts to reindex all documents in the background, or joins the job that runs, and returns at once.

        The gateway decodes whenever its decoders have nothing else to do. The job belongs to the gateway that answers.
        """
        return await self._call(_calls.start_reindex())

    async def reindex_job(self) -> ReindexJob:
        """Returns the state of the running or last reindex job of the gateway that answers."""
        return await self._call(_calls.reindex_job())

    async def delete(self, ref: str) -> str:
        """Deletes a document with its names and labels. Returns its id."""
        return await self._call(_calls.delete(ref))

    # Names and labels.

    async def name(self, name: str) -> Name:
        """Looks up a name: NAME or NAMESPACE/NAME."""
        return await self._call(_calls.get_name(name))

    async def set_name(self, name: str, ref: str, *, token: str | None = None) -> Name:
        """Points a name at a document.

        Args:
            name: NAME or NAMESPACE/NAME.
            ref: Id, unique prefix of the id, or @NAME of the document.
            token: Version token that the name must have; empty: the name must not exist; None: no precondition.

        Raises:
            PreconditionFailed: The name has another version.
        """
        return await self._call(_calls.set_name(name, ref, token))

    async def remove_name(self, name: str, *, token: str | None = None) -> str:
        """Removes a name. Returns the id of its document, which stays."""
        return await self._call(_calls.remove_name(name, token))

    def names(self, prefix: str = "", *, namespace: str = "default", page_size: int = 1000) -> AsyncIterator[Name]:
        """Iterates over the names of a namespace that begin with `prefix`, in no particular order."""
        return self._all(_calls.list_names, {"namespace": namespace, "prefix": prefix, "limit": page_size})

    async def labels(self, ref: str) -> Labels:
        """Returns the labels of a document."""
        return await self._call(_calls.get_labels(ref))

    async def set_labels(self, ref: str, labels: Mapping[str, str], *, token: str | None = None) -> Labels:
        """Replaces all labels of a document; `token` as in `set_name`."""
        return await self._call(_calls.set_labels(ref, labels, token))

    async def update_labels(self, ref: str, changes: Mapping[str, str | None], *, token: str | None = None) -> Labels:
        """Sets some labels of a document, and removes those whose new value is None; `token` as in `set_name`."""
        return await self._call(_calls.update_labels(ref, changes, token))

    # Latents.

    async def latents(self, ref: str, *, dtype: str = "stored") -> Latents:
        """Returns the latents of a document.

        Args:
            ref: Id, unique prefix of the id, or @NAME.
            dtype: "stored" transfers the stored bytes, "f32" floats, which are larger.
        """
        return await self._call(_calls.latents(ref, dtype))

    async def put_latents(self, latents: Latents | bytes | os.PathLike[str]) -> Document:
        """Stores a document from its latents. Fails unless every window decodes to its hash."""
        return await self._call(_calls.put_latents(_file(latents)))

    async def compress(self, text: AsyncText, **options: Any) -> Latents:
        """Returns the latents of a text of at most 4 MiB, without storing anything. Options as in `put`."""
        return await self._call(_calls.compress(text, options))

    async def decompress(
        self, latents: Latents | bytes | os.PathLike[str], *, prompt: str | None = None, tokens_max: int | None = None
    ) -> str:
        """Returns the text of latents, or the answer to a prompt about them, without storing anything."""
        return await self._call(_calls.decompress(_file(latents), prompt, tokens_max))

    # The system.

    async def uploads(self) -> Sequence[Mapping[str, Any]]:
        """Returns the uploads that can be resumed."""
        return list((await self._call(_calls.get_json("/v1/uploads")))["uploads"])

    async def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Returns the nodes that the gateway knows."""
        return list((await self._call(_calls.get_json("/v1/nodes")))["nodes"])

    async def totals(self) -> Mapping[str, int]:
        """Returns totals over all documents. Slow in a large store."""
        return dict(await self._call(_calls.get_json("/v1/totals")))

    # Plumbing.

    def _headers(self, attempts: Attempts) -> dict[str, str]:
        remaining = attempts.remaining()
        timeout = {} if remaining is None else {"request-timeout": f"{remaining:.3f}"}
        return {**timeout, **self._credentials.headers()}

    async def _all(
        self, page_of: Callable[[Mapping[str, Any]], Call[Any]], params: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        cursor: str | None = None
        while True:
            page = await self._call(page_of({**params, "cursor": cursor}))
            for entry in page.entries:
                yield entry
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _write(
        self, path: str, text: AsyncText, options: Mapping[str, Any], progress: Callable[[Progress], None] | None
    ) -> Stored:
        call = _calls.write(path, text, options, events=progress is not None)
        return await self._call(call, None if progress is None else lambda response: _result(response, progress))

    async def _call(self, call: Call[T], read: Callable[[httpx.Response], Coroutine[Any, Any, T]] | None = None) -> T:
        """Sends a call until it succeeds. `read` reads the response as it arrives; else it is read as a whole."""
        attempts = Attempts.begin(self._retry, self._gateways, self._timeout)
        while True:
            url = self._gateways.current()
            headers = {**call.headers, **self._headers(attempts)}
            content: Any = None
            if call.body is not None:
                content = call.body.open()
                if not isinstance(content, (bytes, AsyncIterable)):
                    content = _in_thread(content)
                if call.body.size is not None and not isinstance(content, bytes):
                    headers["content-length"] = str(call.body.size)
            try:
                async with self._http.stream(
                    call.method, url + call.path, params=call.params, headers=headers, content=content
                ) as response:
                    if response.status_code >= 400 or read is None:
                        await response.aread()
                        _calls.raise_for_problem(response)
                        return call.parse(response)
                    return await read(response)
            except (errors.ApiError, *TRANSPORT_ERRORS) as error:
                await asyncio.sleep(attempts.after(error, url, call.may_repeat(True), call.may_repeat(False)))


async def _result(response: httpx.Response, progress: Callable[[Progress], None]) -> Stored:
    parser = _calls.EventParser()
    async for line in response.aiter_lines():
        match parser.feed(line):
            case ("progress", body):
                progress(Progress.from_json(body))
            case ("result", body):
                return Stored.from_json(body)
            case ("problem", body):
                raise errors.error_of(int(body["status"]), body, body.get("retry_after"))
    raise httpx.RemoteProtocolError("the events ended without a result")


async def _in_thread(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Iterates in a thread, so that a slow file does not stop the event loop."""
    iterator = iter(pieces)
    while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
        yield piece


async def _gather(work: Iterable[Coroutine[Any, Any, T]], concurrency: int) -> list[T]:
    limit = asyncio.Semaphore(concurrency)

    async def limited(one: Coroutine[Any, Any, T]) -> T:
        async with limit:
            return await one

    tasks = [asyncio.ensure_future(limited(one)) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        # After an error, the calls that have not ended are cancelled.
        for task in tasks:
            task.cancel()


def _file(latents: Latents | bytes | os.PathLike[str]) -> bytes:
    if isinstance(latents, Latents):
        return latents.file
    if isinstance(latents, os.PathLike):
        with open(latents, "rb") as file:
            return file.read()
    return bytes(latents)
