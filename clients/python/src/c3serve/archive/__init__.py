"""Archive of an agent's transcript: what a compaction drops can be recalled byte for byte.

Each turn becomes a document of C3 Serve. A journal on this machine has the handles of the documents, and the commands,
paths and numbers that each holds. `python -m c3serve.archive` is the worker of the hooks in clients/claude-code.
"""

from ._encoding import Reference, decode
from ._journal import ArchiveBusy, ArchiveError, Entry
from ._session import SessionArchive
from ._table import Missing

__all__ = ["ArchiveBusy", "ArchiveError", "Entry", "Missing", "Reference", "SessionArchive", "decode"]
