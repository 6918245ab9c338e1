"""The table of handles, which tells a model after a compaction what it can recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ._journal import Entry

# Text of code and numbers has about three bytes for each token.
_BYTES_PER_TOKEN = 3
_COMMAND_CHARACTERS = 120
# Commands, paths and numbers that a turn shows; the first line that fits its share of the budget is used.
_FACTS = (
    (100, 100, 100),
    (40, 40, 40),
    (20, 20, 20),
    (10, 10, 10),
    (6, 6, 4),
    (4, 4, 0),
    (2, 2, 0),
    (1, 1, 0),
    (0, 0, 0),
)


@dataclass(frozen=True)
class Missing:
    """A part of the transcript that is not archived yet.

    Attributes:
        turn: Number that the turn will have; 0 if it is not known, because the part is still being written.
        start: First byte in the transcript.
        end: End in the transcript, exclusive.
        words: First words of the prompt.
        reason: Why the part is not archived, and what to do.
    """

    turn: int
    start: int
    end: int
    words: str
    reason: str


def table(session: str, entries: Sequence[Entry], missing: Sequence[Missing], tokens_max: int) -> str:
    """Returns the table for the context of a model, at most about `tokens_max` tokens long.

    If it would be longer, turns show fewer facts, the oldest turns first. Then the oldest turns are left out.
    """
    size = sum(entry.end - entry.start for entry in entries)
    head = [
        f"C3 Serve holds {len(entries)} turns ({_size(size)}) of this session's transcript byte for byte, also what a "
        "compaction dropped.",
        "Read exact text instead of guessing: tool `recall` with a handle of this table and `match` (words in it), "
        f'bytes or lines; or `find` with words and labels {{"session": "{session}"}}, then `recall`.',
        "In a turn, <…@ID:A-B…> stands for the bytes A to B of the document ID.",
        "",
    ]
    tail = [f"Not archived yet: {_missing(one)}" for one in missing]
    budget = tokens_max * _BYTES_PER_TOKEN - _bytes([*head, *tail])
    rows = _rows(entries, budget)
    if len(rows) < len(entries):
        last = entries[len(entries) - len(rows) - 1].turn
        head.append(f"turns 1-{last}: not listed here; use `find`")
    return "\n".join([*head, *rows, *tail]) + "\n"


def _rows(entries: Sequence[Entry], budget: int) -> list[str]:
    rows: list[str] = []
    # Every turn has at least a short row, as long as there is room; the newest turns get what is left.
    short = [_row(entry, _FACTS[-1]) for entry in entries]
    while short and _bytes(short) > budget:
        short.pop(0)
    left = budget - _bytes(short)
    for entry, least in zip(reversed(entries), reversed(short), strict=False):
        share = _bytes([least]) + max(left // 4, left // (len(short) - len(rows)))
        row = next((row for row in (_row(entry, counts) for counts in _FACTS) if _bytes([row]) <= share), least)
        left -= _bytes([row]) - _bytes([least])
        rows.append(row)
    return rows[::-1]


def _row(entry: Entry, counts: tuple[int, int, int]) -> str:
    lines = [f'turn {entry.turn} {entry.handle} {_size(entry.bytes)} ({entry.kind}) "{entry.words}"']
    facts = (
        ("commands", [_command(one) for one in entry.commands], " ; "),
        ("paths", entry.paths, " "),
        ("numbers", entry.numbers, " "),
    )
    for (name, values, join), count in zip(facts, counts, strict=True):
        if not values:
            continue
        if count == 0:
            lines[0] += f", {len(values)} {name}"
            continue
        rest = f" (+{len(values) - count})" if len(values) > count else ""
        lines.append(f"  {name}: {join.join(values[:count])}{rest}")
    return "\n".join(lines)


def _command(command: str) -> str:
    first, newline, _ = command.partition("\n")
    is_cut = bool(newline) or len(first) > _COMMAND_CHARACTERS
    return first[:_COMMAND_CHARACTERS] + ("…" if is_cut else "")


def _missing(one: Missing) -> str:
    name = f'turn {one.turn} "{one.words}"' if one.turn else "the end"
    return f"{name}, bytes {one.start}-{one.end} of the transcript: {one.reason}"


def _size(count: int) -> str:
    return f"{count / 1000:.1f} KB" if count >= 1000 else f"{count} bytes"


def _bytes(lines: Sequence[str]) -> int:
    return sum(len(line.encode(errors="replace")) + 1 for line in lines)
