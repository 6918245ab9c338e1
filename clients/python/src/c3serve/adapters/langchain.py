"""LangChain's `BaseStore` and `ByteStore`, key-value stores. Needs `c3serve[langchain]`."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain_core.stores import BaseStore

from ..client import Client
from ._items import Items

_CONCURRENCY = 8


class C3ValueStore(BaseStore[str, Any]):
    """Key-value store whose values are JSON values.

    Example:
        >>> store = C3ValueStore(Client())  # doctest: +SKIP
        >>> store.mset([("a", {"b": 1})])  # doctest: +SKIP
        >>> store.mget(["a", "c"])  # doctest: +SKIP
        [{'b': 1}, None]
    """

    def __init__(self, client: Client, *, namespace: str = "langchain", ttl_seconds: int | None = None) -> None:
        """Creates a store.

        Args:
            client: Client of the gateway.
            namespace: Namespace of names in the gateway, which nothing else may use.
            ttl_seconds: Seconds after which a value expires.
        """
        self._items = Items(client, namespace)
        self._ttl_seconds = ttl_seconds

    def mget(self, keys: Sequence[str]) -> list[Any | None]:
        """Returns the values of the keys, None for missing ones."""
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            items = pool.map(lambda key: self._items.get((key,)), keys)
            return [None if item is None else self._load(item.value) for item in items]

    def mset(self, key_value_pairs: Sequence[tuple[str, Any]]) -> None:
        """Sets values. Of several values of a key, the last one counts."""
        pairs = dict(key_value_pairs)
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            puts = pool.map(
                lambda pair: self._items.put((pair[0],), self._dump(pair[1]), self._ttl_seconds), pairs.items()
            )
            list(puts)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Deletes keys. Ignores missing ones."""
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            list(pool.map(lambda key: self._items.delete((key,)), dict.fromkeys(keys)))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Iterates over the keys that begin with `prefix`."""
        for entry in self._items.entries():
            key = entry.path[0]
            if key.startswith(prefix or ""):
                yield key

    def _dump(self, value: Any) -> Any:
        return value

    def _load(self, value: Any) -> Any:
        return value


class C3ByteStore(C3ValueStore, BaseStore[str, bytes]):
    """Key-value store whose values are bytes.

    Text in UTF-8 is stored as text. Other bytes are stored as base64, which the models cannot predict: it takes much
    more space and time than text.
    """

    def _dump(self, value: bytes) -> Any:
        try:
            return {"text": value.decode()}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}

    def _load(self, value: Any) -> bytes:
        text: str | None = value.get("text")
        return base64.b64decode(value["base64"]) if text is None else text.encode()
