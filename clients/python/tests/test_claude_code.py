"""The hooks of clients/claude-code, with recorded inputs, against a real gateway."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from messages_api import MessagesApi

from c3serve import Client
from c3serve.archive import SessionArchive

PLUGIN = Path(__file__).parents[2] / "claude-code"
HOOKS = json.loads((PLUGIN / "hooks/hooks.json").read_text())["hooks"]
DELAY_MAX = 0.3
RECALL = "mcp__plugin_c3-archive_c3__recall"


class Session:
    """A session of an agent whose hooks run."""

    def __init__(self, folder: Path, gateway: str) -> None:
        self.id = str(uuid.uuid4())
        self.transcript = folder / f"{self.id}.jsonl"
        self.state = folder / "state"
        self.environment = {
            **os.environ,
            "C3_ARCHIVE_FOLDER": str(self.state),
            "C3_GATEWAY": gateway,
            "C3_PYTHON": sys.executable,
            "CLAUDE_PLUGIN_ROOT": str(PLUGIN),
        }
        self.delays: list[float] = []

    def write(self, prompt: str, answer: str) -> None:
        lines = [("user", prompt), ("assistant", [{"type": "text", "text": answer}])]
        with self.transcript.open("a") as file:
            for role, content in lines:
                body = {"type": role, "message": {"role": role, "content": content}, "sessionId": self.id}
                file.write(json.dumps(body, ensure_ascii=False) + "\n")

    def hook(self, event: str, **members: str) -> str:
        """Runs the hook of an event. Returns what it prints."""
        body = {"session_id": self.id, "transcript_path": str(self.transcript), "cwd": "/", "hook_event_name": event}
        return self.run(event, json.dumps({**body, **members}))

    def run(self, event: str, text: str) -> str:
        [matcher] = HOOKS[event]
        [hook] = matcher["hooks"]
        command = ["sh", "-c", hook["command"]]
        begun = time.monotonic()
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=self.environment, check=True)
        self.delays.append(time.monotonic() - begun)
        assert done.stderr == ""
        return done.stdout

    def is_asked(self) -> bool:
        """Returns whether the last hook has recorded the size of the transcript."""
        path = self.state / self.id / "wanted.json"
        return path.exists() and json.loads(path.read_text())["upto"] == self.transcript.stat().st_size

    def status(self) -> dict[str, object]:
        path = self.state / self.id / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}


def wait(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition does not become true"
        time.sleep(0.05)


@pytest.fixture
def session(gateway: str, tmp_path: Path) -> Session:
    return Session(tmp_path, gateway)


def test_a_turn_is_archived_in_the_background_and_told_after_a_compaction(session: Session, c3: Client) -> None:
    session.write("Count the rows", "12,345 rows in data/rows.csv")
    assert session.hook("Stop") == ""
    wait(lambda: session.status().get("done"))
    archive = SessionArchive(c3, session.id, session.state)
    assert archive.turn(1) == session.transcript.read_bytes()
    session.write("And columns?", "17 of them")
    assert session.hook("PreCompact", trigger="auto") == ""
    wait(session.is_asked)
    printed = json.loads(session.hook("SessionStart", source="compact"))["hookSpecificOutput"]
    assert printed["hookEventName"] == "SessionStart"
    assert archive.entries[0].handle in printed["additionalContext"]
    wait(lambda: session.status().get("turns") == 2)
    wait(lambda: session.status().get("done"))
    again = json.loads(session.hook("SessionStart", source="compact"))["hookSpecificOutput"]["additionalContext"]
    assert archive.entries[1].handle in again and "not archived" not in again
    assert max(session.delays) < DELAY_MAX


def test_a_gateway_that_is_down_is_told_and_the_next_hook_catches_up(
    session: Session, c3: Client, gateway: str
) -> None:
    session.environment["C3_GATEWAY"] = "http://127.0.0.1:9"
    session.write("Count the rows", "12,345 rows")
    session.hook("Stop")
    wait(lambda: session.status().get("error"))
    printed = json.loads(session.hook("SessionStart", source="compact"))
    context = printed["hookSpecificOutput"]["additionalContext"]
    assert 'turn 1 "Count the rows"' in context and "no gateway answers at http://127.0.0.1:9" in context
    assert "c3 serve" in printed["systemMessage"]
    # The workers above still try; one with the right gateway takes over.
    session.environment["C3_GATEWAY"] = gateway
    session.write("And columns?", "17")
    session.hook("Stop")
    wait(lambda: session.status().get("turns") == 2)
    archive = SessionArchive(c3, session.id, session.state)
    assert archive.turn(1) + archive.turn(2) == session.transcript.read_bytes()


def test_a_backlog_is_taken_up_by_the_hook_of_another_session(session: Session, c3: Client, tmp_path: Path) -> None:
    session.write("Count the rows", "12,345 rows")
    session.environment["C3_PYTHON"] = "/bin/false"
    session.hook("SessionEnd", reason="exit")
    wait(session.is_asked)
    other = Session(tmp_path, session.environment["C3_GATEWAY"])
    other.write("Hello", "Hello")
    other.hook("Stop")
    wait(lambda: session.status().get("done"))
    assert SessionArchive(c3, session.id, session.state).turn(1) == session.transcript.read_bytes()


def test_a_python_without_the_package_is_told(session: Session) -> None:
    session.write("Count the rows", "12,345 rows")
    session.environment["C3_PYTHON"] = "/bin/false"
    session.hook("Stop")
    wait(session.is_asked)
    log = session.state / session.id / "worker.log"
    log.write_text("/usr/bin/python3: No module named c3serve\n")
    wanted = session.state / session.id / "wanted.json"
    os.utime(wanted, (0, 0))
    printed = json.loads(session.hook("SessionStart", source="resume"))
    assert "pip install" in printed["systemMessage"]
    assert "are not archived yet" in printed["hookSpecificOutput"]["additionalContext"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"session_id": 7, "transcript_path": null}', "\x00"])
def test_a_broken_event_never_fails_the_turn(session: Session, text: str) -> None:
    assert session.run("Stop", text) == "" and session.run("SessionStart", text) == ""
    session.write("Hello", "Hello")
    printed = json.loads(session.hook("SessionStart", source="startup"))
    assert "a hook failed" in printed["systemMessage"]


def test_an_archive_that_is_turned_off_does_nothing(session: Session) -> None:
    session.environment["C3_ARCHIVE"] = "off"
    session.write("Hello", "Hello")
    assert session.hook("Stop") == "" and session.hook("SessionStart", source="resume") == ""
    assert not session.state.exists()


def test_the_names_of_a_session_stay_within_the_folder(session: Session) -> None:
    session.id = "../../outside"
    session.transcript.write_text("")
    session.hook("Stop")
    wait(session.state.exists)
    assert [path.name[:2] for path in session.state.iterdir()] == ["h-"]


def test_the_plugin_registers_its_hooks_and_its_server() -> None:
    assert set(HOOKS) == {"Stop", "PreCompact", "SessionEnd", "SessionStart"}
    assert json.loads((PLUGIN / ".mcp.json").read_text())["mcpServers"]["c3"]["args"][0] == "mcp"
    assert json.loads((PLUGIN / ".claude-plugin/plugin.json").read_text())["name"] == "c3-archive"


@pytest.mark.skipif("C3_CLAUDE" not in os.environ, reason="C3_CLAUDE does not name the program of Claude Code")
def test_claude_code_itself_archives_and_recalls(gateway: str, c3: Client, tmp_path: Path) -> None:
    api = MessagesApi()
    home, work, state = tmp_path / "home", tmp_path / "work", tmp_path / "state"
    for folder in (home, work):
        folder.mkdir()
    programs = [str(Path(path).parent) for path in (os.environ.get("C3_BIN"), sys.executable) if path]
    environment = {
        "PATH": ":".join([*programs, "/usr/bin", "/bin"]),
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ENABLE_TOOL_SEARCH": "false",
        "C3_GATEWAY": gateway,
        "C3_ARCHIVE_FOLDER": str(state),
    }

    def claude(prompt: str, *more: str) -> str:
        command = [os.environ["C3_CLAUDE"], "--plugin-dir", str(PLUGIN), "-p", prompt, "--output-format", "json"]
        command += ["--allowedTools", f"Bash,{RECALL}", *more]
        done = subprocess.run(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(json.loads(done.stdout)["session_id"])

    def archived(id: str) -> SessionArchive:
        def is_done() -> bool:
            status, wanted = (state / id / name for name in ("status.json", "wanted.json"))
            return status.exists() and json.loads(status.read_text()).get("done") == json.loads(wanted.read_text())

        wait(is_done, 300)
        archive = SessionArchive(c3, id, state)
        [transcript] = home.glob(f".claude/projects/*/{id}.jsonl")
        assert transcript.read_bytes().startswith(b"".join(archive.turn(entry.turn) for entry in archive.entries))
        return archive

    try:
        marker = uuid.uuid4().hex
        shell = f'for n in 1 2 3 4; do echo "row $n of {marker} has 4242 columns"; done'
        id = claude("Call: Bash " + json.dumps({"command": shell}))
        first = archived(id).entries[0]
        assert shell in first.commands
        assert claude("/compact", "--resume", id) == id
        assert claude("Hello", "--resume", id) == id
        assert first.handle in json.dumps(api.requests[-1]["messages"])
        if not _has_mcp():
            return
        claude(f"Call: {RECALL} " + json.dumps({"handle": first.handle, "match": f"row 1 of {marker}"}), "--resume", id)
        assert f"row 4 of {marker}" in json.dumps(api.requests[-1]["messages"][-2:])
        archived(id)
        hits = c3.search(f'"row 3 of {marker}"', labels={"session": id}, limit=50).hits
        assert {hit.document for hit in hits} == {first.id}
    finally:
        api.close()


def _has_mcp() -> bool:
    program = os.environ.get("C3_BIN")
    return bool(program) and subprocess.run([program, "mcp", "--help"], capture_output=True).returncode == 0
