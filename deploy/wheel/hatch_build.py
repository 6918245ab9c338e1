"""Puts the program c3 into the wheel, and names the platform that it was built for."""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags


class ProgramHook(BuildHookInterface):
    """Adds the program that C3_BIN names, by default that of the release build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Extends the contents of the wheel."""
        program = Path(os.environ.get("C3_BIN") or Path(self.root) / "../../target/release/c3").resolve()
        if not program.is_file():
            raise FileNotFoundError(f"{program} is missing: run `cargo build --release -p c3-cli`, or set C3_BIN")
        build_data["shared_scripts"][str(program)] = "c3"
        build_data["pure_python"] = False
        # The first tag but `linux` is that of this machine's C library, which the program needs at least.
        platforms = (tag.platform for tag in sys_tags())
        build_data["tag"] = f"py3-none-{next(each for each in platforms if not each.startswith('linux'))}"
