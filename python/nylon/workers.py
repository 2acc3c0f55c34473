"""`run_workers`: a supervisor with a terminal's or an init system's signals, until one of them stops it.

| signal | |
| --- | --- |
| SIGTERM, SIGINT | drain; a second one stops at once |
| SIGHUP | replace all workers, one after the other, by new ones that load the plugin afresh |
| SIGTTIN, SIGTTOU | one worker more, one less |
| SIGUSR1 | say in the log which processes there are |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nylon.errors import ConfigError
from nylon.recycling import Recycling
from nylon.supervisor import Supervisor
from nylon.worker import WorkerSpec

__all__ = ["run_workers"]

logger = logging.getLogger("nylon.supervisor")


def run_workers(
    plugin: str,
    servers: Sequence[str] | None = None,
    group: str | None = None,
    *,
    workers: int = 1,
    app_dir: str | None = None,
    config: str | None = None,
    recycling: Recycling | None = None,
    reload_dirs: Sequence[str] = (),
    ready_file: str | None = None,
    **options: Any,
) -> int:
    """Run `workers` processes that serve `plugin` until SIGTERM or SIGINT.

    `plugin` is `module:attribute` or `file.py:attribute`; `app_dir` is put on their import path. `servers`, `group` and
    `options` are fields of `WorkerOptions`; what is not given is taken from the plugin, where it is a
    `NatsPlugin`. `config` is JSON text or a file with it, for the plugin's `initialize`. `recycling` says when a
    process is replaced. A change of a Python file in `reload_dirs` replaces all. `ready_file` is there while all serve,
    for probes. The first signal drains (at most `drain_timeout` seconds), a second one kills.

    Returns the exit code: 0 after a drain, 1 where no worker could serve or one had to be killed. Raises `ConfigError`
    for an option that cannot work.
    """
    given = {"servers": servers and list(servers), "group": group, **options}
    overrides = {name: value for name, value in given.items() if value is not None}
    spec = WorkerSpec(plugin=plugin, app_dir=app_dir, config=config, overrides=overrides)
    for directory in reload_dirs:
        if not Path(directory).is_dir():
            raise ConfigError(f"{directory}: there is no such directory to watch")
    ready = Path(ready_file) if ready_file is not None else None
    if ready is not None and not ready.parent.is_dir():
        raise ConfigError(f"ready file {ready}: there is no directory {ready.parent}")
    return asyncio.run(_run(spec, workers, recycling, reload_dirs, ready))


async def _run(
    spec: WorkerSpec,
    workers: int,
    recycling: Recycling | None,
    reload_dirs: Sequence[str],
    ready_file: Path | None,
) -> int:
    # Python compares a compiled file's date in whole seconds: two edits within one must not be taken for one.
    environment = {"PYTHONDONTWRITEBYTECODE": "1"} if reload_dirs else None
    supervisor = Supervisor(spec, workers, recycling, environment, ready_file)
    if reload_dirs:
        supervisor.own(_reload_on_change(supervisor, reload_dirs))
    with _signals(supervisor):
        return await supervisor.run()


async def _reload_on_change(supervisor: Supervisor, directories: Sequence[str]) -> None:
    from watchfiles import PythonFilter, awatch

    logger.info("watching %s", ", ".join(directories))
    try:
        async for changes in awatch(*directories, watch_filter=PythonFilter()):
            names = sorted({Path(path).name for _, path in changes})
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            supervisor.reload(f"{', '.join(names[:3])}{more} changed")
    except (OSError, RuntimeError) as error:  # a directory that went away, no watches left in the system
        logger.error("cannot watch %s: %s; SIGHUP still reloads", ", ".join(directories), error)


@contextlib.contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    actions: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: supervisor.stop,
        signal.SIGINT: supervisor.stop,
        signal.SIGHUP: lambda: supervisor.reload("SIGHUP"),
        signal.SIGTTIN: lambda: supervisor.resize(supervisor.workers + 1),
        signal.SIGTTOU: lambda: supervisor.resize(supervisor.workers - 1),
        signal.SIGUSR1: supervisor.log_state,
    }
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        for number, action in actions.items():
            # Outside the main thread there are no signals to take.
            with contextlib.suppress(ValueError, RuntimeError):
                loop.add_signal_handler(number, action)
                stack.callback(loop.remove_signal_handler, number)
        yield
