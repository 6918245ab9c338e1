"""The same commands against the SDK's memory tool on the file system and ours."""

from pathlib import Path

import pytest
from anthropic.lib.tools import BetaAbstractMemoryTool, ToolError
from anthropic.tools.memory import BetaLocalFilesystemMemoryTool

from c3serve import Client
from c3serve.adapters.anthropic_memory import C3MemoryTool

TEXT = "one\ntwo\nthree\nfour\ntwo words\n"


@pytest.fixture
def tools(c3: Client, namespace: str, tmp_path: Path) -> list[BetaAbstractMemoryTool]:
    return [BetaLocalFilesystemMemoryTool(str(tmp_path)), C3MemoryTool(c3, namespace=namespace)]


def run(tools: list[BetaAbstractMemoryTool], command: str, **arguments) -> str:
    """Runs a command on both tools, whose answers must be equal. An error is returned with a prefix."""
    answers = []
    for tool in tools:
        try:
            answers.append(str(tool.call({"command": command, **arguments})))
        except ToolError as error:
            answers.append(f"error: {error}")
    assert answers[0] == answers[1]
    return answers[1]


def test_files_are_created_viewed_and_edited(tools: list[BetaAbstractMemoryTool]) -> None:
    path = "/memories/notes/todo.txt"
    assert run(tools, "view", path=path).startswith("error")
    assert "created" in run(tools, "create", path=path, file_text=TEXT)
    assert run(tools, "create", path=path, file_text="other").startswith("error")
    assert "three" in run(tools, "view", path=path)
    for view_range in ([2, 3], [4, -1], [1, 1], [0, 2], [3, 99]):
        run(tools, "view", path=path, view_range=view_range)
    assert "edited" in run(tools, "str_replace", path=path, old_str="three", new_str="3\n3")
    assert "ä" in run(tools, "str_replace", path=path, old_str="one", new_str="ä")
    assert "Multiple" in run(tools, "str_replace", path=path, old_str="two", new_str="2")
    assert "verbatim" in run(tools, "str_replace", path=path, old_str="absent", new_str="")
    for line in (0, 2, 6):
        assert "edited" in run(tools, "insert", path=path, insert_line=line, insert_text=f"line {line}\n")
    assert run(tools, "insert", path=path, insert_line=99, insert_text="x").startswith("error")
    assert run(tools, "insert", path=path, insert_line=-1, insert_text="x").startswith("error")
    run(tools, "view", path=path)
    for command in ({"old_str": "a", "new_str": "b"}, {"insert_line": 0, "insert_text": "x"}):
        name = "insert" if "insert_line" in command else "str_replace"
        assert run(tools, name, path="/memories/absent", **command).startswith("error")
        assert run(tools, name, path="/memories/notes", **command).startswith("error")


def test_files_and_directories_are_renamed_and_deleted(tools: list[BetaAbstractMemoryTool]) -> None:
    for name in ("a.txt", "d/b.txt", "d/e/c.txt"):
        run(tools, "create", path=f"/memories/{name}", file_text=name)
    assert "renamed" in run(tools, "rename", old_path="/memories/a.txt", new_path="/memories/x/y.txt")
    assert "renamed" in run(tools, "rename", old_path="/memories/d", new_path="/memories/z")
    assert run(tools, "view", path="/memories/z/e/c.txt").endswith("d/e/c.txt")
    assert run(tools, "rename", old_path="/memories/absent", new_path="/memories/q").startswith("error")
    assert run(tools, "rename", old_path="/memories/x/y.txt", new_path="/memories/z").startswith("error")
    assert run(tools, "delete", path="/memories").startswith("error")
    assert "deleted" in run(tools, "delete", path="/memories/z")
    assert run(tools, "view", path="/memories/z/b.txt").startswith("error")
    assert run(tools, "delete", path="/memories/z").startswith("error")
    assert "deleted" in run(tools, "delete", path="/memories/x/y.txt")


def test_paths_stay_within_the_memory(tools: list[BetaAbstractMemoryTool]) -> None:
    for path in ("/etc/passwd", "/memories/../../etc/passwd", "memories/x"):
        assert run(tools, "create", path=path, file_text="x").startswith("error")


def test_directories_are_listed_to_two_levels(c3: Client, namespace: str) -> None:
    tool = C3MemoryTool(c3, namespace=namespace)
    for name in ("a.txt", "d/b.txt", "d/e/c.txt", ".hidden"):
        tool.call({"command": "create", "path": f"/memories/{name}", "file_text": "x" * 2000})
    listed = str(tool.call({"command": "view", "path": "/memories"}))
    names = [line.split("\t")[1] for line in listed.splitlines()[1:]]
    assert names == ["/memories", "/memories/a.txt", "/memories/d/", "/memories/d/b.txt", "/memories/d/e/"]
    assert tool.clear_all_memory() and str(tool.call({"command": "view", "path": "/memories"})).count("\n") == 1
