"""Starts a real gateway for the tests: `c3 serve`, or the one that C3_GATEWAY names."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from c3serve import Client

ROOT = Path(__file__).parents[3]


def _program() -> str:
    builds = [ROOT / "target" / profile / "c3" for profile in ("release", "debug")]
    found = os.environ.get("C3_BIN") or next((str(path) for path in builds if path.exists()), shutil.which("c3"))
    if not found:
        pytest.fail("no program c3: build it with `cargo build -p c3-cli`, or set C3_BIN or C3_GATEWAY")
    return found


@pytest.fixture(scope="session")
def gateway() -> Iterator[str]:
    given = os.environ.get("C3_GATEWAY")
    if given:
        yield given
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="c3-python-") as folder:
        log = open(Path(folder) / "log", "wb")
        command = [_program(), "serve", "--listen", address, "--data", f"{folder}/data"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_until_ready(f"http://{address}", server, Path(folder) / "log")
            yield f"http://{address}"
        finally:
            server.terminate()
            server.wait()


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"c3 serve does not become ready:\n{log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
def c3(gateway: str) -> Iterator[Client]:
    with Client(gateway) as client:
        yield client


@pytest.fixture
def namespace() -> str:
    """Returns a namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture
def text() -> str:
    """Returns a text that no other test stores."""
    return f"{uuid.uuid4().hex}\nNothing in the world is as soft as water.\nAnd yet nothing surpasses it, ä 書 😀.\n"
