"""The same cases against the SDK's SQLite session in memory and ours, and runs of the SDK's runner."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Agent, ModelResponse, Runner, SQLiteSession, Usage
from agents.memory import Session
from agents.models.interface import Model
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from c3serve import Client
from c3serve.adapters.openai_session import C3Session


@pytest.fixture(params=["sqlite", "c3"])
def session(request: pytest.FixtureRequest, c3: Client, namespace: str) -> Session:
    return SQLiteSession("user-1") if request.param == "sqlite" else C3Session("user-1", c3, namespace=namespace)


def message(text: str, role: str = "user") -> Any:
    return {"role": role, "content": text}


async def test_items_keep_their_order(session: Session) -> None:
    assert await session.get_items() == []
    await session.add_items([message("one"), message("two", "assistant")])
    await session.add_items([])
    await session.add_items([message("one"), {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}])
    items = await session.get_items()
    assert [item.get("content", item.get("name")) for item in items] == ["one", "two", "one", "f"]
    assert await session.get_items(limit=2) == items[2:]
    assert await session.get_items(limit=99) == items
    assert await session.pop_item() == items[3]
    assert await session.get_items() == items[:3]
    await session.clear_session()
    assert await session.get_items() == [] and await session.pop_item() is None
    await session.add_items([message("again")])
    assert await session.get_items() == [message("again")]


async def test_sessions_are_separate_and_continued(c3: Client, namespace: str) -> None:
    first, second = (C3Session(name, c3, namespace=namespace) for name in ("a", "b"))
    await asyncio.gather(first.add_items([message("of a")]), second.add_items([message("of b")]))
    assert await C3Session("a", c3, namespace=namespace).get_items() == [message("of a")]
    await first.clear_session()
    assert await second.get_items() == [message("of b")]


class EchoModel(Model):
    """Answers with the number of items that it received."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        count = 1 if isinstance(input, str) else len(input)
        text = ResponseOutputText(type="output_text", text=f"{count} items", annotations=[])
        output = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    async def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield


async def test_the_runner_continues_a_conversation(c3: Client, namespace: str) -> None:
    agent = Agent(name="echo", model=EchoModel())
    answers = []
    for text in ("hello", "again"):
        session = C3Session("run", c3, namespace=namespace)
        answers.append((await Runner.run(agent, text, session=session)).final_output)
    assert answers == ["1 items", "3 items"]
