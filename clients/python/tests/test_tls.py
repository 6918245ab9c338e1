"""TLS between the client and a gateway with certificates of `c3 certs`."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import _program

from c3serve import Client, RetryPolicy, errors

NO_RETRY = RetryPolicy(attempts=1)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    subprocess.run([_program(), "certs", "init", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def secure(certs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--tls-cert", "gateway.pem", "--tls-key", "gateway.key", "--tls-ca", "ca.pem", "--tls-client", "required"]
    command = [_program(), "serve", "--listen", address, "--data", str(tmp_path_factory.mktemp("data")), *flags]
    server = subprocess.Popen(command, cwd=certs)
    try:
        url, deadline = f"https://{address}", time.monotonic() + 60
        while True:
            try:
                with Client(url, ca=certs / "ca.pem", cert=(certs / "client.pem", certs / "client.key")) as client:
                    list(client.list())
                break
            except errors.ConnectionFailed:
                assert time.monotonic() < deadline
        yield url
    finally:
        server.terminate()
        server.wait()


def test_both_sides_are_verified(secure: str, certs: Path) -> None:
    pair = (certs / "client.pem", certs / "client.key")
    with Client(secure, ca=certs / "ca.pem", cert=pair) as client:
        assert list(client.list()) == []
    for wrong in ({"ca": certs / "ca.pem"}, {"cert": pair}):
        with Client(secure, retry=NO_RETRY, **wrong) as client, pytest.raises(errors.ConnectionFailed):
            list(client.list())


def test_variables_name_the_files(secure: str, certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, file in [("C3_TLS_CA", "ca.pem"), ("C3_TLS_CERT", "client.pem"), ("C3_TLS_KEY", "client.key")]:
        monkeypatch.setenv(variable, str(certs / file))
    with Client(secure) as client:
        assert list(client.list()) == []
