"""Scripted models: each gives the prepared replies of a script in order, without a network.

A reply is a `Call` of a tool, or a text. In a text, `{result}` stands for the last tool result that the model received,
so a script shows that results arrive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """Call of a tool."""

    tool: str
    arguments: dict[str, Any]


Script = list[Call | str]


def chat_model(script: Script) -> Any:
    """Returns a chat model for LangChain and LangGraph."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, ToolMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    replies = _numbered(script)

    class ScriptedModel(BaseChatModel):
        _llm_type = "scripted"

        def bind_tools(self, tools: Any, **_: Any) -> BaseChatModel:
            return self

        def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
            number, reply = next(replies)
            if isinstance(reply, Call):
                call = {"name": reply.tool, "args": reply.arguments, "id": f"call-{number}"}
                answer = AIMessage("", tool_calls=[call])
            else:
                results = [message.text for message in messages if isinstance(message, ToolMessage)]
                answer = AIMessage(_filled(reply, results))
            return ChatResult(generations=[ChatGeneration(message=answer)])

    return ScriptedModel()


def agents_model(script: Script) -> Any:
    """Returns a model for the OpenAI Agents SDK."""
    from agents import Model, ModelResponse, Usage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    replies = _numbered(script)

    class ScriptedModel(Model):
        async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
            number, reply = next(replies)
            if isinstance(reply, Call):
                output = ResponseFunctionToolCall(
                    type="function_call",
                    call_id=f"call-{number}",
                    name=reply.tool,
                    arguments=json.dumps(reply.arguments),
                )
            else:
                results = [item["output"] for item in input if item.get("type") == "function_call_output"]
                text = ResponseOutputText(type="output_text", text=_filled(reply, results), annotations=[])
                output = ResponseOutputMessage(
                    id=f"message-{number}", type="message", role="assistant", status="completed", content=[text]
                )
            return ModelResponse(output=[output], usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    return ScriptedModel()


def anthropic_replies(script: Script) -> Any:
    """Returns a transport that answers `POST /v1/messages` of the Anthropic SDK."""
    import httpx2

    replies = _numbered(script)

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = json.loads(request.content)
        number, reply = next(replies)
        if isinstance(reply, Call):
            block = {"type": "tool_use", "id": f"toolu_{number}", "name": reply.tool, "input": reply.arguments}
        else:
            block = {"type": "text", "text": _filled(reply, _tool_results(asked["messages"]))}
        message = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [block],
            "stop_reason": "tool_use" if isinstance(reply, Call) else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return httpx2.Response(200, json=message)

    return httpx2.MockTransport(answer)


def _numbered(script: Script) -> Iterator[tuple[int, Call | str]]:
    return iter(enumerate(script))


def _filled(text: str, results: list[str]) -> str:
    return text.replace("{result}", results[-1].strip() if results else "nothing")


def _tool_results(messages: list[dict[str, Any]]) -> list[str]:
    """Returns the texts of all tool results in the messages of a request."""
    results = []
    for message in messages:
        blocks = message["content"] if isinstance(message["content"], list) else []
        for block in blocks:
            if block["type"] == "tool_result":
                content = block.get("content", "")
                parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
                # Only the first block is the text that was asked for; the others are notes.
                results.append(parts[0] if parts else "")
    return results
