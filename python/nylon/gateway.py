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
import os
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from nylon import _core
from nylon.embedded import NatsServer
from nylon.errors import GatewayError, NylonError
from nylon.plugin import NylonPlugin

__all__ = ["Gateway"]

#: What a plugin given as an object says of itself in the text that is validated.
_OBJECT = {"type": "python", "module": "nylon:NylonPlugin"}


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
        text, plugins = _as_text(config)
        self._prepare(_core.GatewayCore.from_text("<dict>", text, Path.cwd()), plugins)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Reads the configuration from a YAML file, with the files of its ``config_dir``.

        Raises:
            ConfigError: the configuration is wrong; the text lists all errors with file, line and column.
        """
        gateway = cls.__new__(cls)
        gateway._prepare(_core.GatewayCore.from_file(os.fspath(path)), {})
        return gateway

    def _prepare(self, core: _core.GatewayCore, plugins: dict[str, NylonPlugin]) -> None:
        self._core = core
        self._plugins = plugins
        self._brokers = contextlib.ExitStack()
        self._pid: int | None = None
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._stopped.set()

    @property
    def warnings(self) -> list[str]:
        """What is doubtful in the configuration, each with file, line and column."""
        return self._core.warnings

    @property
    def urls(self) -> list[str]:
        """Where the gateway listens, in the configuration's order; empty while it does not run.

        A listener on all addresses is given by its loopback address.
        """
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        hosts = ((loopback.get(host, host), port) for host, port in self._core.addresses)
        return [f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host, port in hosts]

    @property
    def is_running(self) -> bool:
        """Whether the gateway was started and not stopped."""
        return not self._stopped.is_set()

    def start(self) -> None:
        """Loads the plugins, runs their ``initialize``, binds the addresses and serves.

        Raises:
            PluginError: a plugin cannot be loaded; the text names file and line.
            ConfigError: the configuration names an entry that its plugin lacks.
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
                brokers = {
                    name: self._brokers.enter_context(NatsServer()).url
                    for name in self._core.embedded_brokers
                }
                self._core.start(self._plugins, brokers)
            except BaseException:
                self._brokers.close()
                raise
            self._pid = os.getpid()
            self._stopped.clear()
            _running.add(self)

    def stop(self, grace: float | None = None) -> None:
        """Stops accepting, lets open requests finish, runs the plugins' ``shutdown``, ends all threads.

        Args:
            grace: seconds for the requests, instead of the configuration's times.

        Does nothing where the gateway does not run.
        """
        with self._changing:
            if self._stopped.is_set():
                return
            self._check_process()
            try:
                self._core.stop(grace)
                self._brokers.close()
            finally:
                _running.discard(self)
                self._stopped.set()

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

    def reload(self) -> NoReturn:
        """Reads the configuration again. Not available in this version.

        Raises:
            NylonError: always; stop and start the gateway instead.
        """
        raise NylonError("reload is not available in this version: stop the gateway and start a new one")

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
