"""The six commands of Anthropic's memory tool. Needs `c3serve[anthropic]`.

Messages and errors are those of the SDK's own tool on the local file system.
"""

from __future__ import annotations

from collections.abc import Iterable

from anthropic.lib.tools import BetaAbstractMemoryTool, ToolError
from anthropic.types.beta import (
    BetaMemoryTool20250818CreateCommand,
    BetaMemoryTool20250818DeleteCommand,
    BetaMemoryTool20250818InsertCommand,
    BetaMemoryTool20250818RenameCommand,
    BetaMemoryTool20250818StrReplaceCommand,
    BetaMemoryTool20250818ViewCommand,
)

from ..client import Client
from ._items import Entry, Items, Path

_ROOT = "memories"
_LINES_MAX = 999_999
_NUMBER_WIDTH = 6
_DEPTH_MAX = 2


class C3MemoryTool(BetaAbstractMemoryTool):
    """Memory tool whose files are documents of C3 Serve.

    Example:
        >>> memory = C3MemoryTool(Client())  # doctest: +SKIP
        >>> client.beta.messages.tool_runner(tools=[memory], ...)  # doctest: +SKIP
    """

    def __init__(self, client: Client, *, namespace: str = "anthropic-memory") -> None:
        """Creates a memory.

        Args:
            client: Client of the gateway.
            namespace: Namespace of names in the gateway, which nothing else may use. Each memory needs its own.
        """
        super().__init__()
        self._items = Items(client, namespace)

    def view(self, command: BetaMemoryTool20250818ViewCommand) -> str:
        """Returns a file with line numbers, or the files of a directory."""
        path = _path(command.path)
        entry = self._items.find(path) if path else None
        if entry is None:
            return self._view_directory(command.path, path)
        lines = self._text(entry, command.path).split("\n")
        if len(lines) > _LINES_MAX:
            raise ToolError(f"File {command.path} exceeds maximum line limit of 999,999 lines.")
        first = 1
        if command.view_range and len(command.view_range) == 2:
            first = max(1, command.view_range[0])
            last = len(lines) if command.view_range[1] == -1 else command.view_range[1]
            lines = lines[first - 1 : last]
        return f"Here's the content of {command.path} with line numbers:\n{_numbered(lines, first)}"

    def _view_directory(self, typed: str, path: Path) -> str:
        below = self._below(path)
        if path and not below:
            raise ToolError(f"The path {typed} does not exist. Please provide a valid path.")
        sizes: dict[str, int] = {}
        for entry in below:
            relative = entry.path[len(path) :]
            if any(part.startswith(".") for part in relative):
                continue
            # A directory counts with the bytes of its files.
            for depth in range(1, min(len(relative), _DEPTH_MAX) + 1):
                name = "/".join(relative[:depth]) + ("/" if depth < len(relative) else "")
                sizes[name] = sizes.get(name, 0) + entry.bytes
        listed = [f"{_size(sum(entry.bytes for entry in below))}\t{typed}"]
        names = sorted(sizes, key=lambda name: name.rstrip("/").split("/"))
        listed.extend(f"{_size(sizes[name])}\t{typed}/{name}" for name in names)
        header = f"Here're the files and directories up to 2 levels deep in {typed}, excluding hidden items:"
        return header + "\n" + "\n".join(listed)

    def create(self, command: BetaMemoryTool20250818CreateCommand) -> str:
        """Creates a file. Refuses to replace one."""
        path = _file_path(command.path)
        if self._exists(path):
            raise ToolError(f"File {command.path} already exists")
        self._items.put(path, command.file_text)
        return f"File created successfully at: {command.path}"

    def str_replace(self, command: BetaMemoryTool20250818StrReplaceCommand) -> str:
        """Replaces a text that occurs exactly once in a file."""
        path, content = self._open(command.path)
        count = content.count(command.old_str)
        if count == 0:
            raise ToolError(
                f"No replacement was performed, old_str `{command.old_str}` did not appear verbatim in {command.path}."
            )
        if count > 1:
            at, lines = content.find(command.old_str), []
            while at != -1:
                lines.append(str(content[:at].count("\n") + 1))
                at = content.find(command.old_str, at + 1)
            raise ToolError(
                f"No replacement was performed. Multiple occurrences of old_str `{command.old_str}` in lines: "
                f"{', '.join(lines)}. Please ensure it is unique"
            )
        changed = content[: content.find(command.old_str)].count("\n")
        content = content.replace(command.old_str, command.new_str)
        self._items.put(path, content)
        first = max(0, changed - 2)
        snippet = _numbered(content.split("\n")[first : changed + 3], first + 1)
        return (
            f"The memory file has been edited. Here is the snippet showing the change (with line numbers):\n{snippet}"
        )

    def insert(self, command: BetaMemoryTool20250818InsertCommand) -> str:
        """Inserts a text after a line of a file; line 0 is the beginning."""
        path, content = self._open(command.path)
        lines = content.removesuffix("\n").split("\n") if content else []
        if not 0 <= command.insert_line <= len(lines):
            raise ToolError(
                f"Invalid `insert_line` parameter: {command.insert_line}. "
                f"It should be within the range [0, {len(lines)}]."
            )
        lines.insert(command.insert_line, command.insert_text.rstrip("\n"))
        content = "\n".join(lines)
        self._items.put(path, content if content.endswith("\n") else content + "\n")
        return f"The file {command.path} has been edited."

    def delete(self, command: BetaMemoryTool20250818DeleteCommand) -> str:
        """Deletes a file or a directory."""
        path = _path(command.path)
        if not path:
            raise ToolError("Cannot delete the /memories directory itself")
        deleted = self._items.delete(path)
        for entry in self._below(path):
            deleted |= self._items.delete(entry.path)
        if not deleted:
            raise ToolError(f"The path {command.path} does not exist")
        return f"Successfully deleted {command.path}"

    def rename(self, command: BetaMemoryTool20250818RenameCommand) -> str:
        """Renames a file or a directory. Refuses to replace one."""
        old, new = _path(command.old_path), _file_path(command.new_path)
        if not old:
            raise ToolError("Cannot rename the /memories directory itself")
        if self._exists(new):
            raise ToolError(f"The destination {command.new_path} already exists")
        entry = self._items.find(old)
        moved = [*([entry] if entry else []), *self._below(old)]
        if not moved:
            raise ToolError(f"The path {command.old_path} does not exist")
        for entry in moved:
            item = self._items.read(entry)
            if item:
                self._items.put((*new, *entry.path[len(old) :]), item.value)
                self._items.delete(entry.path)
        return f"Successfully renamed {command.old_path} to {command.new_path}"

    def clear_all_memory(self) -> str:
        """Deletes all files."""
        self._items.clear()
        return "All memory cleared"

    def _open(self, typed: str) -> tuple[Path, str]:
        path = _path(typed)
        entry = self._items.find(path) if path else None
        if entry is None:
            if not path or self._below(path):
                raise ToolError(f"The path {typed} is not a file.")
            raise ToolError(f"The path {typed} does not exist. Please provide a valid path.")
        return path, self._text(entry, typed)

    def _text(self, entry: Entry, typed: str) -> str:
        item = self._items.read(entry)
        if item is None:
            raise ToolError(f"The file {typed} no longer exists (may have been deleted or renamed concurrently).")
        return str(item.value)

    def _exists(self, path: Path) -> bool:
        return self._items.find(path) is not None or bool(self._below(path))

    def _below(self, path: Path) -> list[Entry]:
        entries: Iterable[Entry] = self._items.entries()
        return [entry for entry in entries if len(entry.path) > len(path) and entry.path[: len(path)] == path]


def _path(typed: str) -> Path:
    parts = typed.split("/")
    if not typed.startswith(f"/{_ROOT}") or parts[1] != _ROOT:
        raise ToolError(f"Path must start with /memories, got: {typed}")
    path: list[str] = []
    for part in parts[2:]:
        if part == "..":
            if not path:
                raise ToolError(f"Path {typed} would escape /memories directory")
            path.pop()
        elif part not in ("", "."):
            path.append(part)
    return tuple(path)


def _file_path(typed: str) -> Path:
    path = _path(typed)
    if not path:
        raise ToolError(f"File {typed} already exists")
    return path


def _numbered(lines: list[str], first: int) -> str:
    return "\n".join(f"{number:>{_NUMBER_WIDTH}}\t{line}" for number, line in enumerate(lines, first))


def _size(count: int) -> str:
    if count == 0:
        return "0B"
    unit = min((count.bit_length() - 1) // 10, 3)
    size = count / 1024**unit
    return f"{int(size)}{'BKMG'[unit]}" if size == int(size) else f"{size:.1f}{'BKMG'[unit]}"
