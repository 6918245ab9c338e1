#!/usr/bin/env python3
"""A LangGraph agent that keeps long texts in C3 Serve instead of its context.

    c3 serve
    python langgraph_agent.py FILE                 # any model of init_chat_model: --model PROVIDER:NAME
    python langgraph_agent.py FILE --scripted      # without a network

In the first conversation, the agent reads a file. The tool puts the text into LangGraph's store; the model sees only
its name and its size. The second conversation begins with an empty context and asks for a line, word for word.
"""

import argparse
import sys
from pathlib import Path

from c3serve import Client
from c3serve.adapters.langgraph import C3Store
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain.tools import ToolRuntime, tool

from scripted import Call, chat_model

TEXTS = ("texts",)


def reader_of(folder: Path):
    """Returns a tool that reads the files of a folder, and no others."""

    @tool
    def read_file(name: str, runtime: ToolRuntime) -> str:
        """Reads a text file and keeps its text under the file's name, for `recall`."""
        text = (folder / Path(name).name).read_bytes().decode()
        runtime.store.put(TEXTS, name, {"text": text})
        return f"Kept as {name}: {len(text.splitlines())} lines, {len(text)} characters."

    return read_file


@tool
def recall(name: str, first_line: int, last_line: int, runtime: ToolRuntime) -> str:
    """Returns lines of a kept text, word for word. The first line is line 1."""
    item = runtime.store.get(TEXTS, name)
    if item is None:
        return f"No text is kept as {name}."
    return "".join(item.value["text"].splitlines(keepends=True)[first_line - 1 : last_line])


def main() -> None:
    """Runs both conversations and compares the text in the store with the file."""
    parser = argparse.ArgumentParser(description="LangGraph agent whose long texts are in C3 Serve.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--gateway", default="http://127.0.0.1:7300")
    parser.add_argument("--namespace", default="langgraph-example", help="namespace of the texts in the gateway")
    parser.add_argument("--line", type=int, default=5, help="line to ask for")
    parser.add_argument("--model", default="anthropic:claude-sonnet-5-5")
    parser.add_argument("--scripted", action="store_true", help="use a scripted model instead of --model")
    args = parser.parse_args()
    name, line = args.file.name, args.line

    script = [
        Call("read_file", {"name": name}),
        "I keep it: {result}",
        Call("recall", {"name": name, "first_line": line, "last_line": line}),
        "{result}",
    ]
    questions = [f"Read {name} and keep it.", f"Quote line {line} of {name}, word for word."]
    with Client(args.gateway) as c3:
        store = C3Store(c3, namespace=args.namespace)
        model = chat_model(script) if args.scripted else init_chat_model(args.model)
        agent = create_agent(model, [reader_of(args.file.parent), recall], store=store)
        for question in questions:
            messages = agent.invoke({"messages": [{"role": "user", "content": question}]})["messages"]
            print(f"user:    {question}")
            print(f"agent:   {messages[-1].text}")
            print(f"context: {sum(len(message.text) for message in messages)} characters\n")
        kept = store.get(TEXTS, name)
        identical = kept is not None and kept.value["text"] == args.file.read_bytes().decode()
    print(f"identical to {name}: {'yes' if identical else 'no'}")
    sys.exit(0 if identical else 1)


if __name__ == "__main__":
    main()
