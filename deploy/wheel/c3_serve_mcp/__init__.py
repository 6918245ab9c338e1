"""Runs `c3 mcp` of the program in this package."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Replaces this process by the program, with all arguments."""
    # Both are scripts of this package, in one folder; the one that runs may be a link to it.
    program = Path(sys.argv[0]).resolve().parent / "c3"
    os.execv(program, [str(program), "mcp", *sys.argv[1:]])
