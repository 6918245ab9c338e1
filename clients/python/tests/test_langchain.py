"""LangChain's own tests of its stores."""

from collections.abc import Iterator

import pytest
from langchain_core.stores import BaseStore
from langchain_tests.integration_tests.base_store import BaseStoreAsyncTests, BaseStoreSyncTests

from c3serve import Client
from c3serve.adapters.langchain import C3ByteStore, C3ValueStore


class TestValueStore(BaseStoreSyncTests[dict]):
    @pytest.fixture
    def kv_store(self, c3: Client, namespace: str) -> BaseStore[str, dict]:
        return C3ValueStore(c3, namespace=namespace)

    @pytest.fixture
    def three_values(self) -> tuple[dict, dict, dict]:
        return {"a": 1}, {"b": [None, 2.5]}, {"c": "ä\x7f"}


class TestByteStore(BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, c3: Client, namespace: str) -> BaseStore[str, bytes]:
        return C3ByteStore(c3, namespace=namespace)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"\xff\x00", b""


class TestByteStoreAsync(BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self, c3: Client, namespace: str) -> BaseStore[str, bytes]:
        return C3ByteStore(c3, namespace=namespace)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"\xff\x00", b""


@pytest.fixture
def store(c3: Client, namespace: str) -> Iterator[C3ByteStore]:
    yield C3ByteStore(c3, namespace=namespace)


def test_keys_of_any_form_are_kept(store: C3ByteStore) -> None:
    keys = ["a/b", "../x", "", " ", "ä" * 300, "@name", "a\nb\x7f\x00", "x=y", '"quoted"']
    store.mset([(key, key.encode()) for key in keys])
    assert store.mget(keys) == [key.encode() for key in keys]
    assert sorted(store.yield_keys()) == sorted(keys)


def test_equal_values_of_two_keys_are_independent(store: C3ByteStore) -> None:
    store.mset([("a", b"same"), ("b", b"same")])
    store.mdelete(["a"])
    assert store.mget(["a", "b"]) == [None, b"same"]
