"""Each example of clients/examples as a program, with its scripted model, against a real gateway.

Needs `pip install -r clients/examples/requirements-agents.txt` and `npm --prefix clients/examples ci`.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT, _program

EXAMPLES = ROOT / "clients/examples"
NODE = EXAMPLES / "node_modules/.bin/node"
LINE = "the fifth line:\tä 書 😀, and two spaces  ."
TEXT = "\n".join(["A text of an example.", "", "three\r", "four", LINE, *(f"line {n}" for n in range(6, 60)), "no end"])

needs_python = pytest.mark.skipif(
    any(find_spec(module) is None for module in ("agents", "anthropic", "langchain", "mcp")),
    reason="needs pip install -r clients/examples/requirements-agents.txt",
)
needs_node = pytest.mark.skipif(not NODE.exists(), reason="needs npm --prefix clients/examples ci")


@pytest.fixture
def file(tmp_path: Path, namespace: str) -> Path:
    """Returns a file that no other test stores."""
    path = tmp_path / "essay.txt"
    path.write_bytes(f"{TEXT} {namespace}".encode())
    return path


def run(*command: object) -> str:
    """Runs an example, which must find the text identical and quote its line; returns the output."""
    # No keys, so that a call of a real model fails.
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, env=kept)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "identical to essay.txt: yes" in ran.stdout and LINE in ran.stdout
    return ran.stdout


@needs_python
def test_langgraph_agent(gateway: str, namespace: str, file: Path) -> None:
    example = EXAMPLES / "langgraph_agent.py"
    output = run(sys.executable, example, file, "--scripted", "--gateway", gateway, "--namespace", namespace)
    contexts = [int(line.split()[1]) for line in output.splitlines() if line.startswith("context:")]
    assert len(contexts) == 2 and max(contexts) < len(file.read_text())


@needs_python
def test_openai_agents_session(gateway: str, namespace: str, file: Path) -> None:
    example = EXAMPLES / "openai_agents_session.py"
    run(sys.executable, example, file, "--scripted", "--gateway", gateway, "--session", namespace)


@needs_python
def test_anthropic_memory(gateway: str, namespace: str, file: Path) -> None:
    example = EXAMPLES / "anthropic_memory.py"
    run(sys.executable, example, file, "--scripted", "--gateway", gateway, "--namespace", namespace)


@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize(
    "command",
    [
        pytest.param([sys.executable, EXAMPLES / "mcp_client.py"], marks=needs_python, id="python"),
        pytest.param([NODE, EXAMPLES / "mcp_client.ts"], marks=needs_node, id="typescript"),
    ],
)
def test_mcp_client(gateway: str, file: Path, tmp_path: Path, command: list, transport: str) -> None:
    server = ["--url", f"{gateway}/mcp"] if transport == "http" else ["--c3", _program(), "--data", tmp_path / "data"]
    assert "protocol 2026-07-28" in run(*command, file, "--scripted", *server)


@needs_node
def test_the_typescript_example_has_no_type_errors() -> None:
    checked = subprocess.run(
        [EXAMPLES / "node_modules/.bin/tsc", "--project", EXAMPLES], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
