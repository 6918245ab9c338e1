"""The client against a real gateway."""

import io
import json
import socketserver
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import numpy
import pytest

import c3serve
from c3serve import AsyncClient, Client, RetryPolicy


def test_texts_of_all_kinds_come_back(c3: Client, text: str, tmp_path: Path) -> None:
    data = text.encode()
    path = tmp_path / "text"
    path.write_bytes(data)
    expected = c3.put(text)
    assert not expected.already_stored and expected.document.verified and expected.document.bytes == len(data)
    halves = [data[:9], data[9:]]
    for same in (data, path, path.open("rb"), io.BytesIO(data), halves, iter(halves), (text[:3], text[3:])):
        stored = c3.put(same)
        assert stored.id == expected.id and stored.already_stored
    assert c3.get(expected.id) == text
    assert c3.get(expected.id[:20]) == text


def test_a_text_that_is_not_utf_8_is_refused_with_its_offset(c3: Client) -> None:
    with pytest.raises(c3serve.InvalidRequest, match="byte 3") as caught:
        c3.put(b"abc\xff")
    assert caught.value.status == 400 and caught.value.members["field"] == "text"


def test_ranges_and_lines(c3: Client, text: str) -> None:
    data, id = text.encode(), c3.put(text).id
    assert c3.range(id, 3, 20) == data[3:20]
    assert c3.range(id, 50) == data[50:]
    assert c3.range(id, 3, 3) == b""
    assert c3.lines(id, 2, 2) == "Nothing in the world is as soft as water.\n"
    assert c3.lines(id, 2) == text.split("\n", 1)[1]
    with pytest.raises(c3serve.OutOfRange) as caught:
        c3.range(id, len(data), len(data) + 5)
    assert caught.value.members["bytes"] == len(data)
    with pytest.raises(c3serve.OutOfRange) as caught:
        c3.lines(id, 4)
    assert caught.value.members["lines"] == 3


def test_documents_are_described_listed_and_deleted(c3: Client, text: str, namespace: str) -> None:
    begun = datetime.now(timezone.utc) - timedelta(seconds=2)
    stored = c3.put(text, name=f"{namespace}/a/b", labels={"kind": "x=y"}, ttl_seconds=3600)
    found = c3.stat(f"@{namespace}/a/b")
    assert found.id == stored.id and found.labels == {"kind": "x=y"} and found.created > begun
    assert found.expires is not None and found.exact_windows is not None
    listed = list(c3.list(namespace=namespace, name_prefix="a/", labels={"kind": "x=y"}, created_from=begun))
    assert [(one.id, one.names) for one in listed] == [(stored.id, ("a/b",))]
    assert list(c3.list(namespace=namespace, created_before=begun)) == []
    assert c3.delete(f"@{namespace}/a/b") == stored.id
    with pytest.raises(c3serve.NotFound):
        c3.get(stored.id)
    assert not c3.exists(f"@{namespace}/a/b")


def test_names_and_labels_change_only_if_their_version_is_expected(c3: Client, text: str, namespace: str) -> None:
    first, second = c3.put(text).id, c3.put(text + "second").id
    name = c3.set_name(f"{namespace}/name", first, token="")
    with pytest.raises(c3serve.PreconditionFailed) as caught:
        c3.set_name(f"{namespace}/name", second, token="")
    assert caught.value.token == name.token and caught.value.status == 412
    changed = c3.set_name(f"{namespace}/name", second, token=name.token)
    assert c3.name(f"{namespace}/name") == changed and changed.id == second
    assert [one.name for one in c3.names(namespace=namespace, page_size=1)] == ["name"]
    with pytest.raises(c3serve.PreconditionFailed):
        c3.remove_name(f"{namespace}/name", token=name.token)
    assert c3.remove_name(f"{namespace}/name") == second

    third = c3.put(text + "third", name=f"{namespace}/new", name_token="").id
    with pytest.raises(c3serve.PreconditionFailed):
        c3.put(text + "third", name=f"{namespace}/new", name_token="")
    assert c3.get(f"@{namespace}/new") == c3.get(third)

    labels = c3.set_labels(first, {"a": "1", "b": "2"}, token="")
    assert c3.update_labels(first, {"a": None, "c": "3"}, token=labels.token).labels == {"b": "2", "c": "3"}
    with pytest.raises(c3serve.PreconditionFailed):
        c3.set_labels(first, {}, token=labels.token)
    assert c3.set_labels(first, {}).token is None and c3.labels(first).labels == {}


def test_pages_are_joined(c3: Client, text: str, namespace: str) -> None:
    for number in range(5):
        c3.put(f"{text}{number}", name=f"{namespace}/{number}")
    assert len({one.id for one in c3.list(namespace=namespace, page_size=2)}) == 5
    assert {one.name for one in c3.names(namespace=namespace, page_size=2)} == set("01234")


def test_append_and_recode(c3: Client, text: str) -> None:
    first = c3.put(text)
    both = c3.append(first.id, "more")
    assert c3.get(both.id) == text + "more" and c3.get(first.id) == text
    assert c3.recode(both.id, codec="q8_0").document.codec == "q8_0"
    assert c3.get(both.id) == text + "more"


def test_progress_is_reported_and_problems_are_raised(c3: Client, text: str) -> None:
    seen: list[c3serve.Progress] = []
    long = "".join(f"{text}{number} is another paragraph of this text.\n\n" for number in range(400))
    stored = c3.put(long, progress=seen.append)
    assert stored.document.bytes == len(long.encode())
    assert seen and all(0 < one.bytes_done <= stored.document.bytes for one in seen)
    with pytest.raises(c3serve.InvalidRequest, match="not UTF-8"):
        c3.put(b"\xff", progress=seen.append)


@pytest.mark.parametrize("codec", ["f32", "bf16", "q8_0", "q4_0"])
def test_latents_are_the_same_floats_in_every_codec(c3: Client, text: str, codec: str) -> None:
    id = c3.put(text, codec=codec).id
    stored, floats = c3.latents(id), c3.latents(id, dtype="f32")
    assert stored.document is not None and stored.document["id"] == id and len(stored) == len(floats) > 0
    for window, other in zip(stored, floats, strict=True):
        assert window.numpy().shape == (window.latents, window.width)
        assert numpy.array_equal(window.numpy(), other.numpy())
    shared = stored[0].numpy()
    assert (shared.base is not None) or codec != "f32"
    assert c3.decompress(stored) == text
    c3.delete(id)
    assert c3.put_latents(stored).id == id and c3.get(id) == text
    length = sum(len(window.data) for window in stored)
    with pytest.raises(c3serve.DataLoss):
        c3.put_latents(stored.file[:-length] + bytes(length))


def test_compress_stores_nothing(c3: Client, text: str) -> None:
    latents = c3.compress(text, ratio=20)
    assert latents.document is None and c3.decompress(latents) == text
    with pytest.raises(c3serve.WrongModel):
        c3.decompress(latents, prompt="Summarise the text")


def test_many_documents_concurrently(c3: Client, text: str) -> None:
    texts = [f"{text}{number}" for number in range(12)]
    assert list(c3.get_many([one.id for one in c3.put_many(texts, concurrency=4)])) == texts


def test_the_system_is_described(c3: Client) -> None:
    assert {node["stage"] for node in c3.nodes()} == {"compressor", "decoder"}
    assert c3.totals()["documents"] >= 0 and isinstance(c3.uploads(), list)


def test_a_timeout_ends_a_call(gateway: str, text: str) -> None:
    with Client(gateway, timeout=0.001, retry=RetryPolicy(attempts=1)) as c3:
        with pytest.raises((c3serve.DeadlineExceeded, c3serve.ConnectionFailed)):
            c3.put(text * 200)


async def test_the_asynchronous_client_does_the_same(gateway: str, text: str, namespace: str) -> None:
    async def pieces():
        for piece in (text[:5], text[5:]):
            yield piece

    async with AsyncClient(gateway) as c3:
        seen: list[c3serve.Progress] = []
        stored = await c3.put(pieces(), name=f"{namespace}/x", progress=seen.append)
        assert await c3.get(stored.id) == text
        assert await c3.range(stored.id, 1, 4) == text.encode()[1:4]
        assert await c3.lines(stored.id, 2, 2) == "Nothing in the world is as soft as water.\n"
        async with c3.stream(f"@{namespace}/x") as parts:
            assert b"".join([part async for part in parts]) == text.encode()
        assert [one.id async for one in c3.list(namespace=namespace)] == [stored.id]
        assert (await c3.start_reindex()).active and (await c3.reindex_job()).state != "idle"
        assert [one.name async for one in c3.names(namespace=namespace)] == ["x"]
        texts = [f"{text}{number}" for number in range(6)]
        many = await c3.put_many(texts)
        assert list(await c3.get_many([one.id for one in many])) == texts
        assert await c3.put(io.BytesIO(text.encode())) is not None
        assert len(await c3.latents(stored.id)) > 0
        assert (await c3.stat(stored.id)).id == stored.id
        with pytest.raises(c3serve.NotFound):
            await c3.stat("@no-such-name")


class _Flaky(socketserver.ThreadingTCPServer):
    """Forwards bytes to a gateway and cuts each of the first connections after some bytes of the response."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, gateway: str, cuts: list[int]) -> None:
        self.gateway, self.cuts, self.requests = gateway, cuts, []
        super().__init__(("127.0.0.1", 0), _Forward)


class _Forward(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(65536)
            if not piece:
                return
            head += piece
        server.requests.append(head.decode())
        path = head.split()[1].decode()
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
        headers = {key.lower(): value for key, value in headers.items() if key.lower() != "host"}
        with httpx.stream("GET", server.gateway + path, headers=headers) as response:
            fields = "".join(f"{key}: {value}\r\n" for key, value in response.headers.items())
            content = b"".join(response.iter_raw())
            answer = f"HTTP/1.1 {response.status_code} X\r\n{fields}connection: close\r\n\r\n".encode() + content
        cut = server.cuts.pop(0) if server.cuts else len(content)
        self.request.sendall(answer[: len(answer) - len(content) + cut])


def test_a_broken_download_is_resumed_at_its_byte(c3: Client, gateway: str, text: str) -> None:
    id = c3.put(text).id
    with _Flaky(gateway, [10, 0, 25]) as flaky:
        threading.Thread(target=flaky.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{flaky.server_address[1]}"
        with Client(url, retry=RetryPolicy(first_delay=0.001)) as client:
            assert client.get(id) == text
        ranges = [line for head in flaky.requests for line in head.lower().split("\r\n") if line.startswith("range")]
        assert ranges == ["range: bytes=10-", "range: bytes=10-", "range: bytes=35-"]
        assert all(f'"{id}"' in head for head in flaky.requests[1:])
        flaky.shutdown()


def test_another_gateway_takes_over(gateway: str, text: str) -> None:
    with Client(["http://127.0.0.1:9", gateway]) as c3:
        assert c3.get(c3.put(text).id) == text
    with Client("http://127.0.0.1:9", retry=RetryPolicy(attempts=2, first_delay=0.001)) as c3:
        with pytest.raises(c3serve.ConnectionFailed):
            c3.stat("@x")


def _answers(*answers: tuple[int, dict[str, str], dict[str, object]]) -> tuple[httpx.Client, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        status, headers, body = answers[len(seen)]
        seen.append(request)
        return httpx.Response(status, headers=headers, content=json.dumps(body).encode())

    return httpx.Client(transport=httpx.MockTransport(answer)), seen


def test_retries_honour_the_time_that_the_gateway_names(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("c3serve.client.time.sleep", slept.append)
    overloaded = {"type": "urn:c3serve:problem:overloaded", "detail": "full"}
    final = {"type": "urn:c3serve:problem:unavailable", "detail": "no node"}
    http, seen = _answers((429, {"retry-after": "7"}, overloaded), (200, {}, {"documents": 3}))
    assert Client(http=http).totals() == {"documents": 3}
    assert slept == [7.0] and len(seen) == 2
    http, seen = _answers((503, {}, final))
    with pytest.raises(c3serve.Unavailable):
        Client(http=http).totals()
    assert len(seen) == 1


def test_a_consumed_iterator_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("c3serve.client.time.sleep", lambda _: None)
    overloaded = {"type": "urn:c3serve:problem:overloaded", "detail": "full"}
    http, seen = _answers((429, {}, overloaded))
    with pytest.raises(c3serve.Overloaded):
        Client(http=http).put(iter(["a", "b"]))
    assert len(seen) == 1 and seen[0].content == b"ab"


def test_search_finds_words_and_phrases(c3: Client, text: str) -> None:
    marker = f"zyx{abs(hash(text)) % 10**9}"
    stored = c3.put(f"The keeper of the {marker} lighthouse counted eleven ships.\n{text}")
    hidden = c3.put(f"Nobody finds the {marker} harbour.\n{text}", search=False)
    deadline = time.monotonic() + 30
    while not (page := c3.search(marker, snippet_bytes=80)).hits and time.monotonic() < deadline:
        pass
    assert [hit.document for hit in page.hits] == [stored.id] and page.next_cursor is None
    hit = page.hits[0]
    assert hit.snippet is not None and marker in hit.snippet and hit.terms == (marker,)
    (phrase,) = c3.search(f'"{marker} lighthouse counted"').hits
    start, end = phrase.matches[0]
    assert c3.range(stored.id, start, end).decode() == f"{marker} lighthouse counted"
    assert not c3.search(f'"{marker} harbour"').hits
    assert not c3.search(marker, documents=[hidden.id]).hits
    assert c3.reindex(hidden.id) >= 1 and c3.reindex(hidden.id) == 0
    unfound = c3.put(f"Nobody finds the {marker} pier either.\n{text}", search=False)
    job, deadline = c3.start_reindex(), time.monotonic() + 120
    while job.active and time.monotonic() < deadline:
        job = c3.reindex_job()
    assert job.state == "ended" and job.documents >= 3 and job.reindexed >= 1 and job.failed == 0
    assert c3.reindex(unfound.id) == 0
    with pytest.raises(c3serve.InvalidRequest, match="no word"):
        c3.search("...")
