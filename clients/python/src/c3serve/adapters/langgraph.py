"""LangGraph's `BaseStore`, the long-term memory of agents. Needs `c3serve[langgraph]`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from ..client import Client
from ._items import Entry, Items
from ._items import Item as StoredItem

_CONCURRENCY = 8


class C3Store(BaseStore):
    """Store whose items are documents of C3 Serve.

    Supports put, get, delete, batches, TTL, namespaces and filters. There is no index, so the `query` of a search is
    ignored: the items come in the order in which they were changed, the latest first.

    A search lists all items of the store and decodes those that it has to filter or return.

    Example:
        >>> store = C3Store(Client())  # doctest: +SKIP
        >>> store.put(("users", "1"), "prefs", {"theme": "dark"})  # doctest: +SKIP
        >>> store.get(("users", "1"), "prefs").value  # doctest: +SKIP
        {'theme': 'dark'}
    """

    supports_ttl = True

    def __init__(self, client: Client, *, namespace: str = "langgraph", ttl: TTLConfig | None = None) -> None:
        """Creates a store.

        Args:
            client: Client of the gateway.
            namespace: Namespace of names in the gateway, which nothing else may use.
            ttl: Defaults for the time to live, in minutes.
        """
        self._items = Items(client, namespace)
        self.ttl_config = ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Runs several operations concurrently. Of several puts of a key, the last one counts."""
        listed = list(ops)
        reads = [(number, op) for number, op in enumerate(listed) if not isinstance(op, PutOp)]
        puts = {(op.namespace, op.key): op for op in listed if isinstance(op, PutOp)}
        results: list[Result] = [None] * len(listed)
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            # As in LangGraph's own stores, reads see the state before the batch.
            for (number, _), result in zip(reads, pool.map(lambda read: self._read(read[1]), reads), strict=True):
                results[number] = result
            list(pool.map(self._put, puts.values()))
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Runs `batch` in a thread."""
        return await asyncio.to_thread(self.batch, list(ops))

    def _put(self, op: PutOp) -> None:
        path = (*op.namespace, op.key)
        if op.value is None:
            self._items.delete(path)
        else:
            ttl_seconds = None if op.ttl is None else max(1, round(op.ttl * 60))
            self._items.put(path, dict(op.value), ttl_seconds)

    def _read(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            found = self._items.get((*op.namespace, op.key))
            if found is None:
                return None
            if op.refresh_ttl:
                self._items.refresh(found.entry)
            return Item(**_fields(found))
        if isinstance(op, SearchOp):
            return self._search(op)
        if isinstance(op, ListNamespacesOp):
            return self._namespaces(op)
        raise ValueError(f"unknown operation: {type(op).__name__}")

    def _search(self, op: SearchOp) -> Result:
        depth = len(op.namespace_prefix)
        entries = [entry for entry in self._items.entries() if entry.path[:-1][:depth] == op.namespace_prefix]
        entries.sort(key=lambda entry: entry.updated, reverse=True)
        if not op.filter:
            entries = entries[op.offset : op.offset + op.limit]
        items = self._items.read_all(entries)
        if op.filter:
            items = [item for item in items if _matches(item.value, op.filter)][op.offset : op.offset + op.limit]
        if op.refresh_ttl:
            for item in items:
                self._items.refresh(item.entry)
        return [SearchItem(**_fields(item)) for item in items]

    def _namespaces(self, op: ListNamespacesOp) -> Result:
        spaces = {entry.path[:-1] for entry in self._items.entries()}
        for condition in op.match_conditions or ():
            spaces = {space for space in spaces if _fits(space, condition)}
        if op.max_depth is not None:
            spaces = {space[: op.max_depth] for space in spaces}
        return sorted(spaces)[op.offset : op.offset + op.limit]


def _fields(item: StoredItem) -> dict[str, Any]:
    entry: Entry = item.entry
    return {
        "namespace": entry.path[:-1],
        "key": entry.path[-1],
        "value": item.value,
        "created_at": entry.created,
        "updated_at": entry.updated,
    }


def _fits(space: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if len(space) < len(path):
        return False
    part = space[: len(path)] if condition.match_type == "prefix" else space[len(space) - len(path) :]
    return all(wanted in ("*", given) for given, wanted in zip(part, path, strict=True))


def _matches(value: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(_compare(value.get(key), condition) for key, condition in wanted.items())


def _compare(given: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return bool(given == wanted)
    if not any(key.startswith("$") for key in wanted):
        return isinstance(given, dict) and all(_compare(given.get(key), one) for key, one in wanted.items())
    return all(_operator(operator, given, operand) for operator, operand in wanted.items())


def _operator(operator: str, given: Any, operand: Any) -> bool:
    if operator == "$eq":
        return bool(given == operand)
    if operator == "$ne":
        return bool(given != operand)
    if operator not in ("$gt", "$gte", "$lt", "$lte"):
        raise ValueError(f"unsupported operator: {operator}")
    try:
        left, right = float(given), float(operand)
    except (TypeError, ValueError):
        return False
    return {"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[operator]
