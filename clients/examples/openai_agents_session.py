#!/usr/bin/env python3
"""An agent of the OpenAI Agents SDK whose history is in C3 Serve.

    c3 serve
    python openai_agents_session.py FILE                 # model: --model NAME, or the SDK's default
    python openai_agents_session.py FILE --scripted      # without a network

The user sends a long text. Later turns cut long messages of the history before the model sees them, as an application
must when its context is full. The session still has the whole text, so a tool finds the passage, word for word.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from agents import Agent, RunConfig, RunContextWrapper, Runner, function_tool
from c3serve import Client
from c3serve.adapters.openai_session import C3Session

from scripted import Call, agents_model

CUT = 200


@function_tool
async def search_history(context: RunContextWrapper[C3Session], words: str) -> str:
    """Returns the lines of the user's earlier messages that contain these words, word for word."""
    texts = [item["content"] for item in await context.context.get_items() if is_user_text(item)]
    # The last message is the question.
    lines = [line for text in texts[:-1] for line in text.splitlines() if words in line]
    return "\n".join(lines) or "no line has these words"


def is_user_text(item) -> bool:
    """Tells whether an item of the history is a text message of the user."""
    return item.get("role") == "user" and isinstance(item.get("content"), str)


def without_long_texts(history: list, new: list) -> list:
    """Cuts the long messages of the history; those of this turn stay whole."""
    cut = [{**item, "content": item["content"][:CUT] + " [cut]"} if is_long(item) else item for item in history]
    return cut + new


def is_long(item) -> bool:
    """Tells whether an item is a message that is cut."""
    return is_user_text(item) and len(item["content"]) > CUT


async def main() -> None:
    """Runs three turns and compares the text in the session with the file."""
    parser = argparse.ArgumentParser(description="Agent of the OpenAI Agents SDK whose history is in C3 Serve.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--gateway", default="http://127.0.0.1:7300")
    parser.add_argument("--session", default="example", help="id of the session; the same id continues it")
    parser.add_argument("--line", type=int, default=5, help="line to ask for, by its first words")
    parser.add_argument("--model", help="default: that of the SDK")
    parser.add_argument("--scripted", action="store_true", help="use a scripted model instead of --model")
    args = parser.parse_args()
    text = args.file.read_bytes().decode()
    words = text.splitlines()[args.line - 1][:30]

    script = ["I have read it.", "Four.", Call("search_history", {"words": words}), "{result}"]
    turns = [f"Read this text:\n{text}", "What is two and two?", f"Quote the line that begins with: {words}"]
    agent = Agent(
        name="reader",
        instructions="Long messages of the history are cut. Quote from them only with search_history.",
        tools=[search_history],
        model=agents_model(script) if args.scripted else args.model,
    )
    config = RunConfig(session_input_callback=without_long_texts, tracing_disabled=args.scripted)
    with Client(args.gateway) as c3:
        session = C3Session(args.session, c3)
        for turn in turns:
            result = await Runner.run(agent, turn, session=session, context=session, run_config=config)
            print(f"user:  {turn.splitlines()[0]}")
            print(f"agent: {result.final_output}\n")
        identical = any(item.get("content") == turns[0] for item in await session.get_items())
    print(f"identical to {args.file.name}: {'yes' if identical else 'no'}")
    sys.exit(0 if identical else 1)


if __name__ == "__main__":
    asyncio.run(main())
