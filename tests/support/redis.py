"""A real redis-server on loopback, with or without a password and TLS, which can die and come back."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from support.client import Address
from support.waiting import eventually


class RedisServer:
    """One server on one port, over any number of lives. Use `redis_server`."""

    def __init__(self, port: int, *, password: str = "", tls: Sequence[str] = ()) -> None:
        """`tls`: the files of a certificate and its key."""
        program = shutil.which("redis-server")
        assert program, "there is no redis-server here: `apt-get install redis-server`"
        self.address: Address = ("127.0.0.1", port)
        listen = ["--port", str(port)]
        if tls:
            cert, key = tls
            listen = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
            listen += ["--tls-cert-file", cert, "--tls-key-file", key]
        self._command = [program, "--bind", "127.0.0.1", *listen, "--save", "", "--appendonly", "no"]
        if password:
            self._command += ["--requirepass", password]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)

    def start(self) -> bool:
        """Start it; False if the port was taken meanwhile."""
        self._process = process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=5):
                return True
            return process.poll() is not None

        eventually(listens, "a redis-server", within=20)
        return process.poll() is None

    def restart(self) -> None:
        """Come back on the same port, with nothing of what was known."""
        self.kill()
        assert self.start(), f"port {self.address[1]} was taken meanwhile"

    def kill(self) -> None:
        """End it at once, with all that it knows."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        self.kill()
        self._log.close()


@contextlib.contextmanager
def redis_server(*, password: str = "", tls: Sequence[str] = ()) -> Iterator[RedisServer]:
    """A running server on a port that was free."""
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = RedisServer(port, password=password, tls=tls)
        try:
            if server.start():
                yield server
                return
        finally:
            server.stop()
    raise AssertionError("no port stays free for a redis-server")
