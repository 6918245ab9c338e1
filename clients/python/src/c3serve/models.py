"""Values that the client returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclass(frozen=True)
class Document:
    """A stored document.

    Attributes:
        id: BLAKE3 hash of the text, 64 hexadecimal digits.
        bytes: Size of the text.
        tokens: Number of text tokens.
        latents: Number of latents.
        ratio: Text tokens per latent; 0 if parts of the document have different ratios.
        codec: Encoding of the latents.
        fidelity: Fraction of tokens that need no correction to be right; None if not verified.
        corrections: Number of corrections; None if not verified.
        exact_windows: Windows that need no correction; None if unknown.
        windows: Number of windows, the parts that are decoded separately.
        verified: Whether every token was checked, so that reads are exact.
        stored_bytes: Bytes in the store.
        cascade: Name of the model.
        created: Time of the first put.
        expires: Time from which the document is not found, or None.
        labels: Labels of the document.
        names: Names that matched the filter of a list.
    """

    id: str
    bytes: int
    tokens: int
    latents: int
    ratio: int
    codec: str
    fidelity: float | None
    corrections: int | None
    exact_windows: int | None
    windows: int
    verified: bool
    stored_bytes: int
    cascade: str
    created: datetime
    expires: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Document:
        """Creates a document from a body of the gateway. Ignores unknown members."""
        names = cls.__dataclass_fields__
        known = {key: value for key, value in body.items() if key in names}
        known["created"] = _time(known["created"])
        if known.get("expires"):
            known["expires"] = _time(known["expires"])
        known["names"] = tuple(known.get("names", ()))
        return cls(**known)


@dataclass(frozen=True)
class Stored:
    """Result of a put, append or recode.

    Attributes:
        document: The document.
        already_stored: Whether a document with this text existed before.
        shards_reused: Number of parts that were stored before.
        seconds: Seconds that the models and the store took, by stage.
        bound_met: With ratio "auto", whether the document meets the bound; else None.
    """

    document: Document
    already_stored: bool
    shards_reused: int
    seconds: Mapping[str, float]
    bound_met: bool | None = None

    @property
    def id(self) -> str:
        """Returns the id of the document."""
        return self.document.id

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Stored:
        """Creates a result from a body of the gateway."""
        return cls(
            document=Document.from_json(body),
            already_stored=body["already_stored"],
            shards_reused=body["shards_reused"],
            seconds=body["seconds"],
            bound_met=body.get("bound_met"),
        )


@dataclass(frozen=True)
class Progress:
    """Progress of a put.

    Attributes:
        bytes_done: Bytes that are durable but not visible yet.
        bytes_reused: Bytes that were stored before.
        bytes_compressed: Bytes whose latents are known: those of bytes_done, and some that are not verified yet.
        seconds_left: Estimate, or None if unknown.
        upload: Name under which the upload can be resumed, or None.
    """

    bytes_done: int
    tokens_done: int
    bytes_reused: int
    bytes_compressed: int
    seconds_left: float | None
    upload: str | None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Progress:
        """Creates the progress from an event of the gateway."""
        return cls(**{key: body[key] for key in cls.__dataclass_fields__})


@dataclass(frozen=True)
class SearchHit:
    """A window that matches a search. A window is a part of a document that is decoded as a unit.

    Attributes:
        document: Id of the document.
        window: Index of the window in the document, from 0.
        start: First byte of the window's text in the document.
        end: End of the window's text, exclusive.
        score: BM25 score.
        terms: Words of the query that the window contains; a few may be wrong.
        matches: Ranges of phrases in the document, in bytes. One may end in the next window.
        snippet: Part of the text that shows the match, or None.
        snippet_start: First byte of the snippet in the document, or None.
    """

    document: str
    window: int
    start: int
    end: int
    score: float
    terms: tuple[str, ...]
    matches: tuple[tuple[int, int], ...]
    snippet: str | None = None
    snippet_start: int | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> SearchHit:
        """Creates a hit from a body of the gateway."""
        snippet = body.get("snippet") or {}
        return cls(
            document=body["document"],
            window=body["window"],
            start=body["bytes"]["start"],
            end=body["bytes"]["end"],
            score=body["score"],
            terms=tuple(body["terms"]),
            matches=tuple((match["start"], match["end"]) for match in body["matches"]),
            snippet=snippet.get("text"),
            snippet_start=snippet.get("start"),
        )


@dataclass(frozen=True)
class SearchPage:
    """A page of hits, the best first.

    Attributes:
        hits: The hits.
        next_cursor: Cursor of the next page, or None.
        partial: Whether some documents could not be found, because the gateway has not read all of them yet.
    """

    hits: tuple[SearchHit, ...]
    next_cursor: str | None
    partial: bool

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> SearchPage:
        """Creates a page from a body of the gateway."""
        return cls(tuple(map(SearchHit.from_json, body["hits"])), body["next_cursor"], body["partial"])


@dataclass(frozen=True)
class ReindexJob:
    """Running or last reindex job of a gateway, which lets search find all documents.

    Attributes:
        state: "idle" (none was started since the gateway started), "running", "waiting" (decoders have other work, none
            is ready, the quota is used up, or the store is unavailable) or "ended".
        documents: Documents that were stored when the job started; 0 while they are listed.
        reindexed: Documents that search did not find before.
        skipped: Documents that search found already, and those that were stored without verification, deleted or
            replaced.
        failed: Documents that could not be reindexed. Another job tries them again.
        windows: Windows that search did not find before.
        last_problem: Problem of the last document that failed, or was skipped although search does not find it; or
            None.
    """

    state: str
    documents: int
    reindexed: int
    skipped: int
    failed: int
    windows: int
    last_problem: str | None

    @property
    def active(self) -> bool:
        """Returns whether the job has not ended."""
        return self.state in ("running", "waiting")

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> ReindexJob:
        """Creates the state from a body of the gateway. Ignores unknown members."""
        return cls(**{key: body[key] for key in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Name:
    """A name and its document.

    Attributes:
        namespace: Namespace of the name.
        name: The name without its namespace.
        id: Id of the document.
        token: Version token, for conditional changes.
        changed: Time of the last change.
    """

    namespace: str
    name: str
    id: str
    token: str
    changed: datetime

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Name:
        """Creates a name from a body of the gateway."""
        return cls(body["namespace"], body["name"], body["id"], body["token"], _time(body["changed"]))


@dataclass(frozen=True)
class Labels:
    """Labels of a document.

    Attributes:
        id: Id of the document.
        labels: The labels.
        token: Version token, for conditional changes; None if there are no labels.
    """

    id: str
    labels: Mapping[str, str]
    token: str | None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Labels:
        """Creates labels from a body of the gateway."""
        return cls(body["id"], body["labels"], body["token"])
