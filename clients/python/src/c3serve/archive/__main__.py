"""`python -m c3serve.archive`: the worker of the hooks, and the archive of a session on the command line."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .. import C3Error
from ..client import Client
from ._journal import ArchiveError, default_folder
from ._session import SessionArchive
from ._worker import Worker, lower_priority

_TABLE_TOKENS = 6000


def main() -> int:
    """Runs a command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m c3serve.archive", description=__doc__)
    parser.add_argument("--gateway", default=os.environ.get("C3_GATEWAY") or "http://127.0.0.1:7300")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="folder of the state")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in (
        ("work", "archive what hooks have asked for"),
        ("table", "print the table of handles"),
        ("turn", "print the bytes of a turn"),
        ("restore", "write the journal again from the store"),
    ):
        command = commands.add_parser(name, help=description)
        command.add_argument("session", help="id of the session")
        if name == "turn":
            command.add_argument("number", type=int)
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except (ArchiveError, C3Error, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    tokens_max = int(os.environ.get("C3_ARCHIVE_TABLE_TOKENS") or _TABLE_TOKENS)
    if arguments.command == "work":
        lower_priority()
        ttl = os.environ.get("C3_ARCHIVE_TTL_SECONDS")
        worker = Worker(arguments.folder, arguments.gateway, int(ttl) if ttl else None, tokens_max)
        return 0 if worker.run(arguments.session) else 1
    archive = SessionArchive(Client(arguments.gateway), arguments.session, arguments.folder)
    match arguments.command:
        case "table":
            print(archive.table(tokens_max), end="")
        case "turn":
            sys.stdout.buffer.write(archive.turn(arguments.number))
        case "restore":
            print(f"{archive.restore()} turns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
