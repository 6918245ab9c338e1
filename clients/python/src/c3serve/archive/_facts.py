"""Facts of a turn: its first words, kind, commands, paths and numbers, and the texts that it repeats from documents.

The turn is a part of a transcript in JSON Lines, as Claude Code writes it, or any text. Facts only help to find a turn;
what they leave out is stored all the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._encoding import Reference

_WORDS = 100
_FACTS_MAX = 400
_COMMAND_KEYS = ("command", "cmd")
# Members of messages without facts: ids, and data in base64.
_NO_FACTS = ("id", "tool_use_id", "signature", "data")
_FENCE = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PROMPT = re.compile(r"^\$ (.+)$", re.MULTILINE)
_PATH = re.compile(
    r"(?<![\w/.:@%$&?=<-])(?:(?:~/|\.{1,2}/|/)(?:[A-Za-z0-9_.@+-]+/)*|(?:[A-Za-z0-9_.@+-]+/)+)[\w.@+-]*\w"
)
_AFTER_ENDING = re.compile(r"(\.[A-Za-z0-9]{1,8})[^\x00-\x7f].*")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")
_NUMBER = re.compile(
    r"(?<![\w.,:/@#-])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?"
    r"(?:\s?(?:%|‰|ms|µs|us|ns|s|min|h|[KMGT]i?B|B|x|°C)(?!\w))?(?![\w:/-]|\.\d)"
)
_ID = re.compile(r"[0-9a-f]{64}")
# A reference takes about as many.
_REPEATED_CHARACTERS = 80


@dataclass(frozen=True)
class Facts:
    """Facts of a turn, each without repetitions, in the order of the text."""

    kind: str
    words: str
    commands: tuple[str, ...]
    paths: tuple[str, ...]
    numbers: tuple[str, ...]


def of_turn(turn: bytes) -> Facts:
    """Returns the facts of a turn."""
    tools: Counter[str] = Counter()
    commands: list[str] = []
    texts: list[str] = []
    for line in turn.decode(errors="replace").split("\n"):
        message = _message(line)
        if message is None:
            texts.append(line)
            continue
        for value in _walk(message):
            if isinstance(value, str):
                texts.append(value)
            elif value.get("type") == "tool_use":
                tools[str(value.get("name"))] += 1
            if isinstance(value, dict):
                commands += [value[key] for key in _COMMAND_KEYS if isinstance(value.get(key), str)]
    text = "\n".join(texts)
    for block in _FENCE.findall(text):
        commands += [line.removeprefix("$ ") for line in block.splitlines() if line.strip()]
    commands += _PROMPT.findall(text)
    return Facts(
        kind=", ".join(f"{name} {count}" for name, count in tools.most_common(4)) or "text",
        words=first_words(turn),
        commands=_distinct(commands),
        paths=_distinct(path for path in map(_path, _PATH.findall(text)) if path),
        numbers=_distinct(number for number in _NUMBER.findall(text) if _tells(number)),
    )


def first_words(turn: bytes) -> str:
    """Returns the first words of the prompt, else of the first message or line with words."""
    other = ""
    for line in turn.split(b"\n"):
        text = line.decode(errors="replace")
        message = _message(text)
        words = " ".join(text.split() if message is None else " ".join(_texts(message)).split())[:_WORDS]
        if words and is_prompt(line):
            return words
        other = other or words
    return other


def is_prompt(line: str | bytes) -> bool:
    """Returns whether a line of the transcript is a prompt of the user, with which a turn begins."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    if not isinstance(entry, dict) or entry.get("type", entry.get("role")) != "user":
        return False
    if entry.get("isMeta") or entry.get("isSidechain") or entry.get("isCompactSummary"):
        return False
    message = entry.get("message", entry)
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return not any(isinstance(block, dict) and block.get("type") == "tool_result" for block in content)
    return isinstance(content, str)


def repeated(turn: bytes) -> list[Reference]:
    """Returns the texts that the turn claims to repeat from documents: results of the tools `recall` and `find`.

    These are JSON objects with the members `id`, `start`, `end`, and `text` or `snippet`, also inside of strings. The
    bytes of a snippet are within the range. Nothing is compared with the documents yet.
    """
    found: dict[tuple[str, int, int, str], Reference] = {}
    for line in turn.decode(errors="replace").split("\n"):
        if '"start' not in line and '\\"start' not in line:
            continue
        try:
            values = list(_walk(json.loads(line), into_strings=True))
        except (ValueError, RecursionError):
            continue
        for value in values:
            claim = _claim(value)
            if claim:
                found[(claim.id, claim.start, claim.end, claim.text)] = claim
    return list(found.values())


def _claim(value: Any) -> Reference | None:
    if not isinstance(value, dict):
        return None
    text = value.get("text", value.get("snippet"))
    match value.get("id"), value.get("start"), value.get("end"):
        case str(id), int(start), int(end) if _ID.fullmatch(id) and 0 <= start < end:
            if isinstance(text, str) and len(text) >= _REPEATED_CHARACTERS:
                return Reference(id, start, end, text)
    return None


def _message(line: str) -> Any:
    if not line.startswith(("{", "[")):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if isinstance(entry, dict) and "type" in entry and "sessionId" in entry:
        # A line of Claude Code. The other types and members are its own, or repeat the message.
        return entry.get("message", {}) if entry["type"] in ("user", "assistant") else {}
    return entry


def _walk(value: Any, into_strings: bool = False) -> Iterator[Any]:
    """Iterates over the strings and objects of a value, optionally over those in strings that are JSON."""
    if isinstance(value, str):
        yield value
        if into_strings and value.startswith(("{", "[")):
            try:
                yield from _walk(json.loads(value))
            except (ValueError, RecursionError):
                pass
    elif isinstance(value, dict):
        yield value
        for key, member in value.items():
            if into_strings or key not in _NO_FACTS:
                yield from _walk(member, into_strings)
    elif isinstance(value, list):
        for member in value:
            yield from _walk(member, into_strings)


def _texts(message: Any) -> list[str]:
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, str):
        return [content]
    blocks = content if isinstance(content, list) else []
    return [block["text"] for block in blocks if isinstance(block, dict) and isinstance(block.get("text"), str)]


def _path(path: str) -> str | None:
    path = _AFTER_ENDING.sub(r"\1", path).rstrip(".")
    has_ending = bool(_ENDING.search(path))
    # Words with slashes between them, such as and/or, are no paths.
    is_rooted = path.startswith(("/", "~", ".")) and path.count("/") > 1
    is_path = has_ending or is_rooted or (path.count("/") > 1 and path.islower())
    return path if is_path and any(map(str.isalpha, path)) else None


def _tells(number: str) -> bool:
    digits = sum(map(str.isdigit, number))
    return digits >= 3 or (digits >= 2 and not number.isdecimal())


def _distinct(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))[:_FACTS_MAX]
