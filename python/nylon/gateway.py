"""The gateway as a Python object.

    from nylon import Gateway

    with Gateway.from_file("nylon.yaml") as gateway:
        print(gateway.urls)
        gateway.wait()

Any number of them run in one process, each may be started and stopped any number of times, and port 0 gives a
free port. What was not stopped is stopped when the interpreter exits: a data plane that still calls into Python
while that ends can abort the process.
"""

import atexit
import contextlib
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nylon import _core
from nylon.control import Control
from nylon.embedded import NatsServer
from nylon.errors import GatewayError, NylonError
from nylon.plugin import NylonPlugin

__all__ = ["Gateway", "Reloaded"]

_log = logging.getLogger("nylon.gateway")

#: Seconds that a stop waits for a reload, which has been told to give up.
_RELOAD_PATIENCE = 5.0
#: What a plugin given as an object says of itself in the text that is validated.
_OBJECT = {"type": "python", "module": "nylon:NylonPlugin"}


#: A configuration as it was read, and the plugins given as objects.
_Read = tuple[_core.GatewayCore, dict[str, NylonPlugin]]


@dataclass(frozen=True)
class Reloaded:
    """What a reload that took effect has done."""

    generation: int
    """The number of the plan that is live now: 1 since the start, one more with each reload."""
    started: list[str]
    """Plugins that are new or have changed."""
    kept: list[str]
    """Plugins that have not, and go on with all that they have."""
    ended: list[str]
    """Plugins that serve what began before, and then end."""
    warnings: list[str]
    """What is doubtful in the new configuration, or could not take effect."""


class Gateway:
    """A gateway that runs in this process. A context manager: it starts at the ``with`` and stops at its end.

    Args:
        config: the configuration, with the keys and values of the YAML file. Relative paths start from the
            working directory. A plugin may be given as an object:
            ``{"plugins": [{"name": "auth", "plugin": plugin}], …}``.

    Raises:
        ConfigError: the configuration is wrong; the text lists all errors.
        TypeError: a value of it cannot stand in a configuration.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._prepare("<dict>", lambda: _from_dict(config))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Reads the configuration from a YAML file, with the files of its ``config_dir``.

        Raises:
            ConfigError: the configuration is wrong; the text lists all errors with file, line and column.
        """
        gateway = cls.__new__(cls)
        name = os.path.abspath(path)  # noqa: PTH100 (of a path that may be bytes or text)
        gateway._prepare(name, lambda: (_core.GatewayCore.from_file(os.fspath(path)), {}))
        return gateway

    def _prepare(self, name: str, read: Callable[[], _Read]) -> None:
        self._name = name
        self._read = read
        self._core, self._plugins = read()
        self._brokers: dict[str, NatsServer] = {}
        self._closing = contextlib.ExitStack()
        self._control: Control | None = None
        self._former_controls: list[Control] = []
        self._pid: int | None = None
        self._started = 0.0
        self._reloads: dict[str, Any] = {"done": 0, "refused": 0, "last_refusal": None}
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._stopped.set()

    @property
    def warnings(self) -> list[str]:
        """What is doubtful in the configuration, each with file, line and column."""
        return self._core.warnings

    @property
    def urls(self) -> list[str]:
        """Where the gateway listens, plain HTTP before HTTPS and each in the configuration's order; empty while it
        does not run.

        A listener on all addresses is given by its loopback address.
        """
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        return [
            f"{scheme}://[{at}]:{port}" if ":" in at else f"{scheme}://{at}:{port}"
            for scheme, host, port in self._core.addresses
            if (at := loopback.get(host, host))
        ]

    @property
    def is_running(self) -> bool:
        """Whether the gateway was started and not stopped."""
        return not self._stopped.is_set()

    def status(self) -> dict[str, Any]:
        """What runs now, as `nylon status --json` prints it; see docs/operations.md. Empty while nothing runs."""
        status: dict[str, Any] = json.loads(self._core.status())
        if not status:
            return {}
        uptime = time.monotonic() - self._started
        return {
            "pid": os.getpid(),
            "version": _core.version,
            "uptime_seconds": round(uptime, 3),
            "config": self._name,
            **status,
            "reloads": dict(self._reloads),
        }

    def start(self) -> None:
        """Loads the plugins, runs their ``initialize``, binds the addresses and serves.

        Raises:
            PluginError: a plugin cannot be loaded; the text names file and line.
            ConfigError: the configuration names an entry that its plugin lacks, or a library that cannot be loaded;
                the text names the place, the library and what it lacks.
            GatewayError: an address is taken, or the gateway runs already.
        """
        with self._changing:
            if not self._stopped.is_set():
                self._check_process()
                raise GatewayError("the gateway runs already")
            # What only the data plane knows (a handler that decided nothing, an upstream that is down) must be
            # seen somewhere; a program that has chosen its level before keeps it.
            _core.start_logging("warn")
            try:
                self._control = self._open_control(self._core.control)
                self._core.start(self._plugins, self._start_brokers(self._core))
            except BaseException:
                self._close()
                raise
            self._pid = os.getpid()
            self._started = time.monotonic()
            self._reloads.update(done=0, refused=0, last_refusal=None)
            self._stopped.clear()
            _running.add(self)

    def stop(self, grace: float | None = None) -> None:
        """Stops accepting, lets open requests finish, runs the plugins' ``shutdown``, ends all threads.

        Args:
            grace: seconds for the requests, instead of the configuration's times.

        Does nothing where the gateway does not run.
        """
        # A reload that waits for its plugins holds the lock; one whose `initialize` hangs is not waited for.
        self._core.hurry()
        held = self._changing.acquire(timeout=_RELOAD_PATIENCE)
        try:
            if self._stopped.is_set():
                return
            self._check_process()
            if not held:
                _log.warning("a reload still loads its plugins: it is left behind, and will be refused")
            try:
                self._core.stop(grace)
                self._close()
            finally:
                _running.discard(self)
                self._stopped.set()
        finally:
            if held:
                self._changing.release()
        # Without the lock: a reload that is being asked for would wait for it, to be told that nothing runs.
        for control in self._former_controls:
            control.join(_RELOAD_PATIENCE if held else 0.0)
        self._former_controls.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the gateway is stopped (by another thread), or for ``timeout`` seconds.

        Returns whether it is stopped. Ctrl-C raises ``KeyboardInterrupt`` here.
        """
        self._check_process()
        if timeout is not None:
            return self._stopped.wait(timeout)
        # In slices: a signal handler runs between them wherever the lock itself would hold it back.
        while not self._stopped.wait(0.1):
            pass
        return True

    def reload(
        self, config: Mapping[str, Any] | None = None, *, force: bool = False, wait: float = 10.0
    ) -> Reloaded:
        """Puts another configuration into the place of the running one, at once and as a whole.

        Requests that have begun end as they began, with their plugins; those that begin afterwards meet the new
        configuration. Addresses that stand in both are never closed. A plugin that has not changed goes on with all
        that it has; a changed file is loaded anew beside the old one, which gets its ``shutdown`` after its last
        request. A plugin given by its module or as an object cannot change its settings: give its file, or another
        object.

        Args:
            config: the new configuration. Left out: the file is read again, or the dict that was given applies again.
            force: switch although a new plugin is not ready.
            wait: seconds that new plugins have to be ready: the broker connected, each group with a worker.

        Raises:
            ConfigError: the configuration is wrong (the text lists all errors), or names a library that cannot be
                loaded.
            PluginError: a plugin cannot be loaded.
            GatewayError: a new plugin is not ready, a new address is taken, or the gateway does not run.

        After an error the running configuration goes on as if nothing had happened.
        """
        with self._changing:
            self._check_process()
            try:
                if self._stopped.is_set():
                    raise GatewayError("the gateway does not run: there is nothing to reload")
                done = self._switch(config, force=force, wait=wait)
            except NylonError as error:
                self._reloads["refused"] += 1
                self._reloads["last_refusal"] = {"at": round(time.time(), 3), "reason": str(error)}
                _log.error("the reload was refused, the running configuration stays: %s", error)
                raise
            self._reloads["done"] += 1
            for warning in done.warnings:
                _log.warning("%s", warning)
            _log.info(
                "reloaded, generation %d: started %s; kept %s; ended %s",
                done.generation,
                *(", ".join(names) or "none" for names in (done.started, done.kept, done.ended)),
            )
            return done

    def _switch(self, config: Mapping[str, Any] | None, *, force: bool, wait: float) -> Reloaded:
        read = self._read if config is None else lambda: _from_dict(config)
        core, plugins = read()
        control = self._control
        if core.control != (control.path if control else None):
            control = self._open_control(core.control)
        try:
            done = self._core.reload(core, plugins, self._start_brokers(core), force, wait)
        except BaseException:
            if control is not self._control:
                self._close_control(control)
            raise
        if control is not self._control:
            self._close_control(self._control)
            self._control = control
        self._read, self._plugins = read, plugins
        generation, started, kept, ended, warnings = done
        return Reloaded(generation, started, kept, ended, [*core.warnings, *warnings])

    def _start_brokers(self, core: _core.GatewayCore) -> dict[str, str]:
        """The URLs of the embedded brokers, each started when it is first needed and kept until the stop."""
        for name in core.embedded_brokers:
            if name not in self._brokers:
                self._brokers[name] = self._closing.enter_context(NatsServer())
        return {name: self._brokers[name].url for name in core.embedded_brokers}

    def _open_control(self, path: Path | None) -> Control | None:
        if path is None:
            return None
        return Control(path, {"reload": self._reload_asked, "status": lambda _: self.status()})

    def _close_control(self, control: Control | None) -> None:
        if control is not None:
            control.close()
            self._former_controls.append(control)

    def _reload_asked(self, question: dict[str, Any]) -> dict[str, Any]:
        force, wait = question.get("force", False), question.get("wait", 10.0)
        if not isinstance(force, bool) or not isinstance(wait, int | float) or not 0 <= wait <= 3600:
            raise GatewayError("a reload takes `force` (true or false) and `wait` (0 to 3600 seconds)")
        return asdict(self.reload(force=force, wait=wait))

    def _close(self) -> None:
        self._close_control(self._control)
        self._control = None
        self._brokers.clear()
        self._closing.close()

    def _check_process(self) -> None:
        if self._pid is not None and self._pid != os.getpid():
            raise GatewayError(
                f"this gateway was started in process {self._pid}, and a forked child cannot use it: "
                "make and start a new Gateway here"
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Gateway: {', '.join(self.urls) or 'not running'}>"


_running: weakref.WeakSet[Gateway] = weakref.WeakSet()


def _stop_all() -> None:
    for gateway in list(_running):
        if gateway._pid == os.getpid():
            gateway.stop(grace=1.0)


atexit.register(_stop_all)


def _from_dict(config: Mapping[str, Any]) -> _Read:
    text, plugins = _as_text(config)
    return _core.GatewayCore.from_text("<dict>", text, Path.cwd()), plugins


def _as_text(config: Mapping[str, Any]) -> tuple[str, dict[str, NylonPlugin]]:
    """The configuration as a text to be validated, and the plugins given as objects by their names."""
    objects: dict[str, NylonPlugin] = {}
    written = dict(config)
    plugins = written.get("plugins")
    if isinstance(plugins, (list, tuple)):
        written["plugins"] = [_described(plugin, objects) for plugin in plugins]
    try:
        return json.dumps(written, indent=2, ensure_ascii=False, default=_as_json), objects
    except ValueError as error:
        raise TypeError(f"the configuration cannot be written down: {error}") from None


def _described(plugin: Any, objects: dict[str, NylonPlugin]) -> Any:
    if not isinstance(plugin, Mapping) or "plugin" not in plugin:
        return plugin
    found = plugin["plugin"]
    if not isinstance(found, NylonPlugin):
        raise TypeError(f"`plugin` takes a NylonPlugin object, not {found!r}")
    if isinstance(name := plugin.get("name"), str):
        objects[name] = found
    return {**{key: value for key, value in plugin.items() if key != "plugin"}, **_OBJECT}


def _as_json(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a configuration holds no {type(value).__name__}: {value!r}")
