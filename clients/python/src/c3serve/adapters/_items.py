"""Items under a path, each stored as a document with a name.

The name is a hash of the path, because names are short and have few characters. The path is in the document's labels,
so that items are listed without decoding them. Each write is a document with a text of its own, even if the value is
the same: deleting one item must not delete another one with the same text.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..client import Client
from ..errors import NotFound
from ..models import Document

Path = tuple[str, ...]

_PATH = "item.path"
_CREATED = "item.created"
_UPDATED = "item.updated"
_TTL = "item.ttl"
# A label has at most 256 bytes, so a long path is divided.
_LABEL_BYTES = 250
_CONCURRENCY = 8


@dataclass(frozen=True)
class Entry:
    """An item without its value."""

    path: Path
    id: str
    created: datetime
    updated: datetime
    ttl_seconds: int | None
    bytes: int


@dataclass(frozen=True)
class Item:
    """An item with its value."""

    entry: Entry
    value: Any


class Items:
    """Items in a namespace of names. Safe to use from several threads."""

    def __init__(self, client: Client, namespace: str) -> None:
        """Creates a view of the items in `namespace`, which nothing else may use."""
        self.client = client
        self.namespace = namespace

    def put(self, path: Path, value: Any, ttl_seconds: int | None = None) -> None:
        """Stores a JSON value. Replaces the value that the path had."""
        now = datetime.now(timezone.utc)
        old = self.find(path)
        labels = {**_path_labels(path), _UPDATED: now.isoformat()}
        labels[_CREATED] = (old.created if old else now).isoformat()
        if ttl_seconds is not None:
            labels[_TTL] = str(ttl_seconds)
        text = json.dumps({"path": path, "write": uuid.uuid4().hex, "value": value}, ensure_ascii=False)
        self.client.put(text, name=self._name(path), labels=labels, ttl_seconds=ttl_seconds)
        if old:
            self._delete_document(old.id)

    def get(self, path: Path) -> Item | None:
        """Returns an item, or None."""
        entry = self.find(path)
        return self.read(entry) if entry else None

    def read(self, entry: Entry) -> Item | None:
        """Returns the item of an entry, or None if it was replaced or deleted meanwhile."""
        try:
            return Item(entry, json.loads(self.client.get(entry.id))["value"])
        except NotFound:
            return None

    def read_all(self, entries: list[Entry]) -> list[Item]:
        """Returns the items of several entries, read concurrently. Leaves out those that were deleted meanwhile."""
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            return [item for item in pool.map(self.read, entries) if item]

    def find(self, path: Path) -> Entry | None:
        """Returns the entry of a path, or None."""
        try:
            return _entry(self.client.stat(f"@{self._name(path)}"))
        except NotFound:
            return None

    def delete(self, path: Path) -> bool:
        """Deletes an item. Returns whether it existed."""
        entry = self.find(path)
        return self._delete_document(entry.id) if entry else False

    def refresh(self, entry: Entry) -> None:
        """Starts the time to live of an item again."""
        if entry.ttl_seconds is not None:
            try:
                self.client.recode(entry.id, ttl_seconds=entry.ttl_seconds)
            except NotFound:
                pass

    def entries(self) -> Iterator[Entry]:
        """Iterates over the entries of all items, in no particular order. Decodes none of them."""
        for document in self.client.list(namespace=self.namespace):
            entry = _entry(document)
            if entry:
                yield entry

    def clear(self) -> None:
        """Deletes all items."""
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            list(pool.map(self._delete_document, [entry.id for entry in self.entries()]))

    def _delete_document(self, id: str) -> bool:
        try:
            self.client.delete(id)
            return True
        except NotFound:
            return False

    def _name(self, path: Path) -> str:
        digest = hashlib.blake2b(json.dumps(path).encode(), digest_size=24).hexdigest()
        return f"{self.namespace}/{digest}"


def _path_labels(path: Path) -> dict[str, str]:
    # Labels have no control characters. JSON escapes all of them but DEL.
    text = json.dumps(path).replace("\x7f", "\\u007f")
    parts = [text[start : start + _LABEL_BYTES] for start in range(0, len(text), _LABEL_BYTES)]
    if len(parts) > 20:
        raise ValueError("the key or namespace is too long: use at most 5,000 bytes")
    return {f"{_PATH}.{number}": part for number, part in enumerate(parts)}


def _entry(document: Document) -> Entry | None:
    labels: Mapping[str, str] = document.labels
    if f"{_PATH}.0" not in labels:
        return None
    parts: list[str] = []
    while (part := labels.get(f"{_PATH}.{len(parts)}")) is not None:
        parts.append(part)
    ttl = labels.get(_TTL)
    return Entry(
        path=tuple(json.loads("".join(parts))),
        id=document.id,
        created=datetime.fromisoformat(labels[_CREATED]),
        updated=datetime.fromisoformat(labels[_UPDATED]),
        ttl_seconds=None if ttl is None else int(ttl),
        bytes=document.bytes,
    )
