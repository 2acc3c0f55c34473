"""When a worker process has done its work: after so many calls, or once it holds so much memory.

For plugins that leak, or whose libraries do. The process itself notices, and asks to be replaced; it serves on until
its replacement does.
"""

from __future__ import annotations

import random
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from nylon.errors import ConfigError

__all__ = ["Recycling", "resident_megabytes"]

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, kw_only=True)
class Recycling:
    """The limits of one worker process. Raises `ConfigError` for a number that cannot work."""

    max_requests: int | None = None
    """Calls after which it is replaced."""
    jitter: int | None = None
    """Up to so many calls more, at random, so that workers started together do not end together; by default a tenth of
    `max_requests`."""
    max_rss: float | None = None
    """Megabytes (of 1,000,000 bytes) of resident memory beyond which it is replaced."""

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_rss"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} is {value!r}: it is more than 0")
        if self.jitter is not None and self.jitter < 0:
            raise ConfigError(f"max_requests_jitter is {self.jitter!r}: it is a number of calls, at least 0")

    def drawn(self) -> Recycling:
        """The limits of one process: its share of the jitter is drawn."""
        if self.max_requests is None:
            return self
        most = self.max_requests // 10 if self.jitter is None else self.jitter
        return Recycling(max_requests=self.max_requests + random.randint(0, most), max_rss=self.max_rss)

    def reached(self, calls: int) -> str | None:
        """Which limit a process with so many calls has reached, for the log; None if none."""
        if self.max_requests is not None and calls >= self.max_requests:
            return f"it has had {calls} calls"
        if self.max_rss is not None and (held := resident_megabytes()) > self.max_rss:
            return f"it holds {held:.0f} MB of memory, more than {self.max_rss:g}"
        return None


def resident_megabytes() -> float:
    """What this process holds now; where the system does not tell (it is not Linux), the most it has held so far."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
