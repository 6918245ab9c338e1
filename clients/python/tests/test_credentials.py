"""API keys are sent only where nobody else can read them."""

import httpx
import pytest

from c3serve import Client, NotFound

KEY = "c3_0123456789_secret"


@pytest.mark.parametrize("url", ["https://c3.example", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_a_key_is_sent_over_tls_or_to_this_machine(url: str) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("authorization"))
        return httpx.Response(404, json={"type": "urn:c3serve:problem:not_found", "title": "x", "status": 404})

    client = Client(url, api_key=KEY, http=httpx.Client(transport=httpx.MockTransport(answer)))
    with pytest.raises(NotFound):
        client.stat("@missing")
    assert sent == [f"Bearer {KEY}"]


@pytest.mark.parametrize("url", ["http://c3.example", "http://192.0.2.1:7300", "https://c3.example,http://c3.example"])
def test_a_key_is_not_sent_unencrypted_to_another_machine(url: str) -> None:
    with pytest.raises(ValueError, match="unencrypted") as refused:
        Client(url, api_key=KEY)
    assert "secret" not in str(refused.value)
    Client(url, api_key=KEY, api_key_over_http=True).close()
    Client(url).close()


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C3_API_KEY", f" {KEY}\n")
    with pytest.raises(ValueError, match="unencrypted"):
        Client("http://c3.example")
    with pytest.raises(ValueError, match="malformed"):
        Client("https://c3.example", api_key="two words")
