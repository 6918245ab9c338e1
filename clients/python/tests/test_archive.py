"""The archive of a session, against a real gateway."""

import json
import random
import uuid
from dataclasses import asdict
from pathlib import Path

import pytest

from c3serve import Client, ConnectionFailed, RetryPolicy
from c3serve.archive import ArchiveBusy, ArchiveError, SessionArchive, decode
from c3serve.archive._encoding import encode
from c3serve.archive._facts import is_prompt, of_turn

FIXTURES = Path(__file__).parents[3] / "tests/fixtures/agents"


@pytest.fixture
def session() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def archive(c3: Client, session: str, tmp_path: Path) -> SessionArchive:
    return SessionArchive(c3, session, tmp_path / "state")


def _line(role: str, content: object, **members: object) -> str:
    body = {"type": role, "message": {"role": role, "content": content}, "sessionId": "s", **members}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")) + "\n"


def _turn(prompt: str, answer: str) -> str:
    return _line("user", prompt) + _line("assistant", [{"type": "text", "text": answer}])


def _refuse(*_: object) -> bytes:
    raise AssertionError("no reference is expected")


# The text of a turn.


def test_every_line_comes_back_byte_for_byte() -> None:
    odd = [
        '{"a":"x\\ny \\"q\\"","b":[1.50,1e5,{"c":"' + "long " * 60 + '"}],"k\\"ey":null}',
        '{"js":"\\u001b[31m\\u2028 \x7f","half":"\\ud83d","pair":"😀","ascii":"\\u66f8\\n"}',
        '{"marker":"<3>","not json <2> "x" }',
        '{ "spaced" : "a\\tb" , "path" : "C:\\\\x\\/y" }',
        'plain text <5> with "quotes\\n" and 書\x85\u2028',
        "",
        '[1, "two\\n", {"three": "\\r\\n\\u0000"}]',
        "{",
    ]
    for text in (*odd, "\n".join(odd), "\r\n".join(odd), "\n\n"):
        for turn in (text.encode(), text.encode() + b"\n"):
            assert decode(encode(turn, "s", 1).text, _refuse) == turn
    assert decode(encode(b"\xff{\n", "s", 1).text, _refuse) == b"\xff{\n"


def test_random_lines_come_back_byte_for_byte() -> None:
    chance = random.Random(7)
    pieces = [
        '"',
        "\\",
        "\\n",
        "<",
        ">",
        "1",
        "+",
        "=",
        "@",
        "{",
        "}",
        ":",
        "\n",
        "書",
        "\\u66f8",
        "u:",
        " ",
        "a" * 210,
    ]
    for _ in range(3000):
        turn = "".join(chance.choice(pieces) for _ in range(chance.randrange(30))).encode()
        turn = chance.choice([b"{", b""]) + turn
        assert decode(encode(turn, "s", 1).text, _refuse) == turn


def test_strings_are_stored_without_escapes_and_once() -> None:
    command = 'git commit -m "fix: \\d+ retries"\nls -l'
    result = "line one\nline two\n" * 20
    turn = _line("assistant", [{"type": "tool_use", "name": "Bash", "input": {"command": command}}])
    turn += _line("user", [{"type": "tool_result", "content": result}], toolUseResult={"stdout": result})
    text = encode(turn.encode(), "s", 1).text.decode()
    assert command in text
    assert text.count(result) == 1


def test_facts_name_commands_paths_and_numbers() -> None:
    block = {"type": "tool_use", "name": "Bash", "input": {"command": "rg -n 'a b' src | wc -l"}}
    said = "See crates/store/src/lib.rs:12, ~/notes/计划.md和 /etc/hosts (and/or none): 98.5 % of 12,345 rows, 7 left."
    turn = _line("user", "Count   the rows") + _line("assistant", [block]) + _line("assistant", said)
    facts = of_turn(turn.encode())
    assert facts.words == "Count the rows"
    assert facts.kind == "Bash 1"
    assert facts.commands == ("rg -n 'a b' src | wc -l",)
    assert facts.paths == ("crates/store/src/lib.rs", "~/notes/计划.md", "/etc/hosts")
    assert facts.numbers == ("98.5 %", "12,345")


def test_a_turn_begins_with_a_prompt_of_the_user() -> None:
    assert is_prompt(_line("user", "Hello"))
    assert not is_prompt(_line("user", "Caveat", isMeta=True))
    assert not is_prompt(_line("user", "Summary", isCompactSummary=True))
    assert not is_prompt(_line("user", [{"type": "tool_result", "content": "x"}]))
    assert not is_prompt(_line("assistant", "Hello"))
    assert not is_prompt("not json")


# Archiving.


def test_turns_are_archived_once_and_come_back(archive: SessionArchive, c3: Client, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    first, second = _turn("Count the rows", "There are 12,345 rows."), _turn("数える", "書は3,210行。")
    transcript.write_text(first)
    assert [entry.turn for entry in archive.archive_new(transcript)] == [1]
    assert archive.archive_new(transcript) == []
    with transcript.open("a") as file:
        file.write(second + second + '{"cut')
    assert [entry.turn for entry in archive.archive_new(transcript)] == [2, 3]
    assert [archive.turn(number) for number in (1, 2, 3)] == [first.encode(), second.encode(), second.encode()]
    labels = c3.stat(archive.entries[2].id).labels
    assert labels["session"] == archive.session and labels["previous"] == archive.entries[1].id
    missing = archive.missing(transcript)
    assert [(one.turn, one.end - one.start) for one in missing] == [(0, 5)]
    table = archive.table()
    assert archive.entries[0].handle in table and "12,345" in table
    assert archive.folder.stat().st_mode & 0o077 == 0


def test_only_the_part_that_is_asked_for_is_archived(archive: SessionArchive, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    first, second = _turn("One", "1"), _turn("Two", "2")
    transcript.write_text(first + second)
    assert len(archive.archive_new(transcript, upto=len(first))) == 1
    assert [one.words for one in archive.missing(transcript)] == ["Two"]
    assert len(archive.archive_new(transcript)) == 1


def test_a_kill_between_put_and_journal_leaves_one_document(
    archive: SessionArchive, c3: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcript = tmp_path / "t.jsonl"
    transcript.write_text(_turn("One", "1"))
    with monkeypatch.context() as patch:
        patch.setattr(archive._journal, "write_stored", lambda entry: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            archive.archive_new(transcript)
    # The transcript has grown before the next worker starts; the same turn is stored.
    with transcript.open("a") as file:
        file.write(_line("assistant", "more") + _turn("Two", "2"))
    again = SessionArchive(c3, archive.session, tmp_path / "state")
    assert len(again.archive_new(transcript)) == 2
    assert b"".join(map(again.turn, (1, 2))) == transcript.read_bytes()
    assert len(list(c3.list(labels={"session": archive.session}))) == 2


def test_a_cut_line_of_the_journal_is_ignored(archive: SessionArchive, c3: Client, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    transcript.write_text(_turn("One", "1") + _turn("Two", "2"))
    archive.archive_new(transcript)
    journal = archive.folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    again = SessionArchive(c3, archive.session, tmp_path / "state")
    assert len(again.entries) == 1
    assert [entry.turn for entry in again.archive_new(transcript)] == [2]
    assert again.turn(2) == _turn("Two", "2").encode()
    assert len(SessionArchive(c3, archive.session, tmp_path / "state").entries) == 2


def test_the_journal_is_restored_from_the_store(archive: SessionArchive, c3: Client, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    long = "the same long result\n" * 50
    transcript.write_text(_turn("One", long) + _turn("Two", long))
    archive.archive_new(transcript)
    again = SessionArchive(c3, archive.session, tmp_path / "other")
    assert again.restore() == 2
    assert [entry.id for entry in again.entries] == [entry.id for entry in archive.entries]
    assert again.turn(2) == _turn("Two", long).encode()
    with pytest.raises(ArchiveError, match="has turns"):
        again.restore()


def test_an_agent_without_a_file_appends_turns(archive: SessionArchive) -> None:
    archive.append("user: hi\nassistant: 42.5 ms in src/a/b.rs", kind="chat")
    entry = archive.append("user: hi\nassistant: 42.5 ms in src/a/b.rs")
    assert archive.turn(1) == archive.turn(2) == b"user: hi\nassistant: 42.5 ms in src/a/b.rs"
    assert archive.entries[0].id != entry.id
    assert entry.paths == ("src/a/b.rs",) and entry.numbers == ("42.5 ms",)


# References.


def _recalled(id: str, start: int, end: int, text: str, key: str = "text") -> str:
    value = {"handle": id[:12], "id": id, "start": start, "end": end, "size": 10_000, key: text}
    dumped = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    block = {"tool_use_id": "t1", "type": "tool_result", "content": dumped}
    return _line("user", [block], toolUseResult=dumped, mcpMeta={"structuredContent": value})


def test_recalled_text_is_archived_as_a_reference(archive: SessionArchive, c3: Client, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    marker = f"zephyr{uuid.uuid4().hex[:8]}"
    said = f'The "{marker}" setting doubles the lease to 4,242 ms 書.\nThen the queue drains again, as it should.\n'
    transcript.write_text(_turn("Why?", said))
    [original] = archive.archive_new(transcript)
    whole = c3.get_bytes(original.id)
    start = whole.index(said.encode())
    end = start + len(said.encode())
    again = _line("user", "Recall it") + _recalled(original.id, start, end, said)
    again += _recalled(original.id, 0, len(whole), said.splitlines()[0] + "\n" + "Then the queue drains", key="snippet")
    with transcript.open("a") as file:
        file.write(again)
    [copy] = archive.archive_new(transcript)
    assert archive.turn(2) == again.encode()
    assert marker.encode() not in c3.get_bytes(copy.id)
    hits = c3.search(f'"{marker}"', labels={"session": archive.session}).hits
    assert {hit.document for hit in hits} == {original.id}


def test_a_wrong_claim_is_archived_as_it_is(archive: SessionArchive, c3: Client, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    invented = "This text was never stored anywhere, but it claims to be a part of a document. " * 2
    transcript.write_text(_turn("Why?", "Because."))
    [original] = archive.archive_new(transcript)
    with transcript.open("a") as file:
        file.write(_turn("A", "a") + _recalled(original.id, 0, 150, invented) + _recalled("ab" * 32, 0, 9, invented))
    [copy] = archive.archive_new(transcript)
    assert invented.encode() in c3.get_bytes(copy.id)
    assert b"".join(map(archive.turn, (1, 2))) == transcript.read_bytes()


def test_an_expiring_document_is_not_referred_to(archive: SessionArchive, c3: Client, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    text = f"{uuid.uuid4().hex} expires soon, so that a reference to it would break the turn that has it.\n"
    id = c3.put(text, ttl_seconds=3600).id
    transcript.write_text(_line("user", "Recall") + _recalled(id, 0, len(text), text))
    [entry] = archive.archive_new(transcript)
    assert text.encode() in c3.get_bytes(entry.id)


# Bad input.


def test_a_gateway_that_is_down_leaves_the_archive_as_it_was(c3: Client, session: str, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    transcript.write_text(_turn("One", "1") + _turn("Two", "2"))
    with Client("http://127.0.0.1:9", retry=RetryPolicy(attempts=1)) as down:
        archive = SessionArchive(down, session, tmp_path / "state")
        with pytest.raises(ConnectionFailed):
            archive.archive_new(transcript)
        assert archive.entries == ()
        assert [one.words for one in archive.missing(transcript)] == ["One", "Two"]
    again = SessionArchive(c3, session, tmp_path / "state")
    assert len(again.archive_new(transcript)) == 2


def test_one_process_at_a_time_archives_a_session(archive: SessionArchive, c3: Client, tmp_path: Path) -> None:
    other = SessionArchive(c3, archive.session, tmp_path / "state")
    with archive._journal.lock(), pytest.raises(ArchiveBusy, match="another process"):
        other.append("x")
    other.append("x")


def test_a_changed_or_deleted_transcript_is_refused(archive: SessionArchive, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    transcript.write_text(_turn("One", "1"))
    archive.archive_new(transcript)
    transcript.write_text(_turn("Changed", "1") + _turn("Two", "2"))
    with pytest.raises(ArchiveError, match="as another session"):
        archive.archive_new(transcript)
    transcript.unlink()
    with pytest.raises(ArchiveError, match="cannot be read"):
        archive.archive_new(transcript)
    assert archive.turn(1) == _turn("One", "1").encode()


def test_a_deleted_turn_is_said_to_be_deleted(archive: SessionArchive, c3: Client) -> None:
    entry = archive.append("a turn that is forgotten")
    c3.delete(entry.id)
    with pytest.raises(ArchiveError, match="turn 1 cannot be read, because a document was deleted"):
        archive.turn(1)
    with pytest.raises(ArchiveError, match="turn 2 is not archived"):
        archive.turn(2)


def test_a_table_fits_its_budget() -> None:
    from c3serve.archive import Entry
    from c3serve.archive._session import _split
    from c3serve.archive._table import table

    entries = []
    for number, (start, end, raw) in enumerate(_split((FIXTURES / "transcript.jsonl").read_bytes(), 0), 1):
        facts = asdict(of_turn(raw))
        id = f"{number:064x}"
        entries.append(Entry(number, start, end, sha256="", id=id, bytes=end - start, strings=(), **facts))
    for tokens in (500, 2000, 6000, 20_000):
        text = table("s", entries, [], tokens)
        assert len(text.encode()) <= 3 * tokens + 100
        assert entries[-1].handle in text
    assert all(entry.handle in table("s", entries, [], 6000) for entry in entries)
