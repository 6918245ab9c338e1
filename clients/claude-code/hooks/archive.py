"""Hook of Claude Code: asks a background worker to archive the new turns, and prints the table after a compaction.

Reads the event from standard input. Imports only what starts fast, because the start of a session waits for it; after a
turn, archive.sh runs it in the background. Never fails: each error goes to the log and is told at the next start of the
session, and the exit code is 0.
"""

import fcntl
import json
import os
import re
import sys
import time

# As in c3serve.archive, which is not imported here: it loads an HTTP client.
_NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)
# Missing turns that are listed one by one.
_LISTED = 20
# A worker has read the request after this time, even on a busy machine.
_START_SECONDS = 10


def main():
    """Handles one event."""
    if os.environ.get("C3_ARCHIVE", "").lower() in ("off", "0", "false"):
        return
    event = json.load(sys.stdin)
    session, transcript = event["session_id"], event["transcript_path"]
    folder = _folder(session)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if event.get("hook_event_name") == "SessionStart":
        problem = _problem(folder)
        if event.get("source") in ("compact", "resume"):
            _print_table(folder, transcript, problem)
        elif problem:
            _print({"systemMessage": f"c3-archive: {problem}"})
    _ask(folder, session, transcript)
    _spawn(folder, session)


def _folder(session):
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    root = os.environ.get("C3_ARCHIVE_FOLDER") or os.path.join(state, "c3serve", "archive")
    if not _NAME.fullmatch(session):
        import hashlib

        session = "h-" + hashlib.sha256(session.encode()).hexdigest()[:40]
    return os.path.join(root, session)


def _ask(folder, session, transcript):
    """Records up to which byte the transcript is to be archived."""
    size = os.path.getsize(transcript) if os.path.exists(transcript) else 0
    wanted = {"session": session, "transcript": transcript, "upto": size}
    if not size or wanted == _read(folder, "wanted.json"):
        return
    temporary = os.path.join(folder, f"wanted.{os.getpid()}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(wanted, file)
    os.replace(temporary, os.path.join(folder, "wanted.json"))


def _spawn(folder, session):
    """Starts a worker that outlives this process, and that no signal to the agent's group reaches."""
    root = os.path.dirname(folder)
    python = os.environ.get("C3_PYTHON") or sys.executable
    log = os.path.join(folder, "worker.log")
    if os.path.exists(log) and os.path.getsize(log) > 1 << 20:
        os.truncate(log, 0)
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = [python, "-m", "c3serve.archive", "--folder", root, "work", session]
    # From a folder of the project, `-m` would import the project's own modules.
    os.chdir(folder)
    os.posix_spawnp(python, command, os.environ, file_actions=files, setsid=True)


def _print_table(folder, transcript, problem):
    try:
        with open(os.path.join(folder, "table.txt"), encoding="utf-8") as file:
            lines = [file.read()]
    except FileNotFoundError:
        lines = []
    status = _read(folder, "status.json")
    missing = status.get("missing", [])
    if status.get("done") == _read(folder, "wanted.json"):
        missing = []
    for one in missing[:_LISTED]:
        lines.append(f'Not archived yet: turn {one["turn"]} "{one["words"]}"')
    if len(missing) > _LISTED:
        lines.append(f"Not archived yet: {len(missing) - _LISTED} more turns")
    size = os.path.getsize(transcript) if os.path.exists(transcript) else 0
    rest = size - status.get("archived", 0)
    if rest > 0:
        reason = problem or "work continues in the background"
        lines.append(f"{rest} bytes at the end of the transcript are not archived yet: {reason}")
    if lines:
        context = {"hookEventName": "SessionStart", "additionalContext": "\n".join(lines)}
        message = {"systemMessage": f"c3-archive: {problem}"} if problem else {}
        _print({"hookSpecificOutput": context, **message})


def _problem(folder):
    """Returns what is wrong with the archive and what to do, or None."""
    failed = _take_log()
    if failed:
        return failed
    status, wanted = _read(folder, "status.json"), _read(folder, "wanted.json")
    if status.get("error"):
        return status["error"]
    if not wanted or status.get("done") == wanted or _is_working(folder):
        return None
    if time.time() - os.path.getmtime(os.path.join(folder, "wanted.json")) < _START_SECONDS:
        return None
    log = os.path.join(folder, "worker.log")
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            last = file.read()[-500:].strip().splitlines()[-1]
    except (OSError, IndexError):
        last = "it was stopped"
    advice = ": run `pip install` for clients/python, or set C3_PYTHON" if "No module named" in last else ""
    return f"the worker does not run ({last}){advice}; {log} has more"


def _is_working(folder):
    try:
        with open(os.path.join(folder, "lock"), "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _read(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def _print(value):
    json.dump(value, sys.stdout)


def _log_path():
    return os.path.join(os.path.dirname(_folder("x")), "hook.log")


def _log(error):
    try:
        os.makedirs(os.path.dirname(_log_path()), mode=0o700, exist_ok=True)
        with open(_log_path(), "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {type(error).__name__}: {error}\n")
    except OSError:
        pass


def _take_log():
    """Returns the last error of a hook since the last call, or None."""
    try:
        with open(_log_path(), encoding="utf-8") as file:
            last = file.read().strip().splitlines()[-1]
        os.replace(_log_path(), _log_path() + ".old")
    except (OSError, IndexError):
        return None
    return f"a hook failed ({last}); {_log_path()}.old has more"


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # An error of the archive must not stop the agent.
        _log(error)
