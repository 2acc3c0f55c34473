"""The plugin that every host runs: one source, written the way users write theirs.

Each module has the entries for the test file of the same name. Where a test has to know what a handler saw, the
handler puts it into the response, or (in `logging`, and where it must wait) speaks to the origin; see `origin.py`.
"""

from entries import asynchronous, bodies, deciding, failing, reading, sessions, streaming, writing
from entries.plugin import plugin

__all__ = [
    "asynchronous",
    "bodies",
    "deciding",
    "failing",
    "plugin",
    "reading",
    "sessions",
    "streaming",
    "writing",
]
