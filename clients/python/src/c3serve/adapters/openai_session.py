"""Session of the OpenAI Agents SDK, the history of a conversation. Needs `c3serve[openai-agents]`."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from typing import cast

from agents.items import TResponseInputItem
from agents.memory import SessionABC, SessionSettings

from ..client import Client
from ._items import Entry, Items


class C3Session(SessionABC):
    """Session whose items are documents of C3 Serve.

    Each session has a namespace of names of its own, so its cost does not depend on other sessions.

    Example:
        >>> session = C3Session("user-1", Client())  # doctest: +SKIP
        >>> await Runner.run(agent, "Hello", session=session)  # doctest: +SKIP
    """

    def __init__(
        self,
        session_id: str,
        client: Client,
        *,
        namespace: str = "openai-session",
        ttl_seconds: int | None = None,
        session_settings: SessionSettings | None = None,
    ) -> None:
        """Creates or continues a session.

        Args:
            session_id: Id of the session.
            client: Client of the gateway.
            namespace: Beginning of the namespace of names in the gateway.
            ttl_seconds: Seconds after which an item expires.
            session_settings: Settings of the SDK, such as the default limit of `get_items`.
        """
        self.session_id = session_id
        self.session_settings = session_settings or SessionSettings()
        self._ttl_seconds = ttl_seconds
        digest = hashlib.blake2b(session_id.encode(), digest_size=16).hexdigest()
        self._items = Items(client, f"{namespace}.{digest}")
        self._last = 0
        self._lock = asyncio.Lock()

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Returns the latest `limit` items, or all of them, in chronological order."""
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        return await asyncio.to_thread(self._get, limit)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Adds items to the end of the history."""
        # Two calls of one session must not mix their items.
        async with self._lock:
            await asyncio.to_thread(self._add, items)

    async def pop_item(self) -> TResponseInputItem | None:
        """Removes and returns the latest item; None if there is none."""
        async with self._lock:
            return await asyncio.to_thread(self._pop)

    async def clear_session(self) -> None:
        """Removes all items."""
        async with self._lock:
            await asyncio.to_thread(self._items.clear)

    def _sorted(self) -> list[Entry]:
        return sorted(self._items.entries(), key=lambda entry: entry.path)

    def _get(self, limit: int | None) -> list[TResponseInputItem]:
        entries = self._sorted()
        if limit is not None:
            entries = entries[-limit:] if limit > 0 else []
        return [cast("TResponseInputItem", item.value) for item in self._items.read_all(entries)]

    def _add(self, items: list[TResponseInputItem]) -> None:
        for item in items:
            # Strictly increasing within this session, and unique across processes.
            self._last = max(self._last + 1, time.time_ns())
            self._items.put((f"{self._last:020d}", uuid.uuid4().hex), item, self._ttl_seconds)

    def _pop(self) -> TResponseInputItem | None:
        for entry in reversed(self._sorted()):
            item = self._items.read(entry)
            # Another process may have popped the item; only one of them gets it.
            if item is not None and self._items.delete(entry.path):
                return cast("TResponseInputItem", item.value)
        return None
