"""The same cases against LangGraph's in-memory store and ours."""

import asyncio
import time

import pytest
from langgraph.store.base import BaseStore, GetOp, InvalidNamespaceError, ListNamespacesOp, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from c3serve import Client
from c3serve.adapters.langgraph import C3Store


@pytest.fixture(params=["memory", "c3"])
def store(request: pytest.FixtureRequest, c3: Client, namespace: str) -> BaseStore:
    return InMemoryStore() if request.param == "memory" else C3Store(c3, namespace=namespace)


def test_put_get_and_delete(store: BaseStore) -> None:
    space = ("users", "1")
    assert store.get(space, "prefs") is None
    store.put(space, "prefs", {"theme": "dark", "nested": {"list": [1, None, "ä"]}})
    item = store.get(space, "prefs")
    assert item is not None and item.value == {"theme": "dark", "nested": {"list": [1, None, "ä"]}}
    assert (item.namespace, item.key) == (space, "prefs") and item.created_at <= item.updated_at
    store.put(space, "prefs", {"theme": "light"})
    changed = store.get(space, "prefs")
    assert changed is not None and changed.value == {"theme": "light"}
    assert changed.updated_at > item.updated_at
    store.delete(space, "prefs")
    store.delete(space, "prefs")
    assert store.get(space, "prefs") is None
    assert store.get(("users",), "prefs") is None


def test_searches_filter_by_namespace_and_value(store: BaseStore) -> None:
    for number in range(6):
        kind = "even" if number % 2 == 0 else "odd"
        store.put(("a", kind), f"k{number}", {"number": number, "kind": kind, "meta": {"big": number > 3}})
    store.put(("ab",), "other", {"number": 1})

    def keys(prefix: tuple[str, ...], **arguments) -> list[str]:
        return sorted(item.key for item in store.search(prefix, **arguments))

    assert keys(("a",)) == ["k0", "k1", "k2", "k3", "k4", "k5"]
    assert keys(("a", "odd")) == ["k1", "k3", "k5"]
    assert keys(("a",), filter={"kind": "even"}) == ["k0", "k2", "k4"]
    assert keys(("a",), filter={"number": {"$gte": 2, "$lt": 5}}) == ["k2", "k3", "k4"]
    assert keys(("a",), filter={"kind": {"$ne": "even"}, "number": {"$gt": 1}}) == ["k3", "k5"]
    assert keys(("a",), filter={"meta": {"big": True}}) == ["k4", "k5"]
    assert keys(("a",), filter={"missing": 1}) == []
    assert keys(("x",)) == []
    pages = [keys(("a",), limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert sorted(sum(pages, [])) == keys(("a",)) and pages[3] == []


def test_namespaces_are_listed(store: BaseStore) -> None:
    for space in [("a", "b", "c"), ("a", "b", "d"), ("a", "x"), ("b", "c")]:
        store.put(space, "key", {"v": 1})
    assert sorted(store.list_namespaces()) == [("a", "b", "c"), ("a", "b", "d"), ("a", "x"), ("b", "c")]
    assert sorted(store.list_namespaces(prefix=("a", "b"))) == [("a", "b", "c"), ("a", "b", "d")]
    assert sorted(store.list_namespaces(suffix=("c",))) == [("a", "b", "c"), ("b", "c")]
    assert sorted(store.list_namespaces(prefix=("a", "*", "c"))) == [("a", "b", "c")]
    assert sorted(store.list_namespaces(max_depth=1)) == [("a",), ("b",)]
    assert len(store.list_namespaces(limit=1, offset=3)) == 1


def test_batches_read_before_they_write(store: BaseStore) -> None:
    store.put(("n",), "a", {"v": 1})
    results = store.batch(
        [
            GetOp(("n",), "a"),
            PutOp(("n",), "a", {"v": 2}),
            PutOp(("n",), "b", {"v": 3}),
            PutOp(("n",), "b", {"v": 4}),
            GetOp(("n",), "b"),
            SearchOp(("n",)),
            ListNamespacesOp(),
        ]
    )
    assert results[0].value == {"v": 1} and results[1:5] == [None] * 4
    assert len(results[5]) == 1 and results[6] == [("n",)]
    assert store.get(("n",), "a").value == {"v": 2} and store.get(("n",), "b").value == {"v": 4}


def test_invalid_namespaces_are_refused(store: BaseStore) -> None:
    for space in [(), ("a.b",), ("",), ("langgraph", "x")]:
        with pytest.raises(InvalidNamespaceError):
            store.put(space, "key", {"v": 1})


async def test_asynchronous_calls(store: BaseStore) -> None:
    await asyncio.gather(*(store.aput(("n",), str(number), {"v": number}) for number in range(4)))
    assert [(await store.aget(("n",), str(number))).value["v"] for number in range(4)] == [0, 1, 2, 3]
    assert len(await store.asearch(("n",))) == 4
    await store.adelete(("n",), "0")
    assert await store.aget(("n",), "0") is None


def test_an_item_expires_and_reads_extend_its_life(c3: Client, namespace: str) -> None:
    store = C3Store(c3, namespace=namespace)
    store.put(("n",), "brief", {"v": 1}, ttl=1 / 60)
    store.put(("n",), "kept", {"v": 2}, ttl=5 / 60)
    before = c3.stat(store._items.find(("n", "kept")).id).expires
    deadline = time.monotonic() + 10
    while store.get(("n",), "brief", refresh_ttl=False) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert store.get(("n",), "brief") is None
    assert store.get(("n",), "kept", refresh_ttl=True).value == {"v": 2}
    assert c3.stat(store._items.find(("n", "kept")).id).expires > before
