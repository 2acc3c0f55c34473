"""What is measured: every row of the table, how it is started, and which of its processes are counted.

The rows with a handler all make the same decision (the path and one header), and each is asked before the
measurement to refuse a request, so that a row whose handler does not run cannot look fast.
"""

import functools
import getpass
import grp
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import libraries
from process import Failed, Process, Processes, free_ports

HERE = Path(__file__).parent
RUN = HERE / "run"
PEERS = HERE / "peers"
SMALL = "x" * 100
LARGE_BYTES = 1 << 20
FILE_BYTES = 100_000


@dataclass
class Ports:
    """Where an engine listens and where its origin is."""

    own: int
    origin: int
    http2: int
    """For HTTP/2 with prior knowledge: not every engine tells it from HTTP/1.1 on one port."""
    tls: int
    broker: int


@dataclass
class Running:
    """A started engine."""

    port: int
    http2: int
    tls: int
    processes: dict[str, Process]
    """By role; the one whose CPU the table shows is `proxy`."""


@dataclass
class Engine:
    """One row."""

    name: str
    start: Callable[[Processes, "Engine", Ports, int], dict[str, Process]]
    """From where to start, the row, ports and core to the processes by role."""
    checks: bool = False
    """A handler decides: a request without the key is refused."""
    scenarios: tuple[str, ...] = ("small",)
    options: dict[str, str] = field(default_factory=dict)


def write(template: str, **values: object) -> Path:
    """A peer's configuration with its ports and paths filled in."""
    user = getpass.getuser()
    group = grp.getgrgid(os.getgid()).gr_name
    text = Template((PEERS / template).read_text()).substitute(
        run=RUN, user=user, group=group, small=SMALL, **values
    )
    # Each row has a file of its own: two may be made of one template.
    path = RUN / f"{values['port']}-{template}"
    path.write_text(text)
    return path


@dataclass
class Authority:
    """The files of a certificate for `bench.test` (ECDSA, P-256), and of who has issued it."""

    ca: Path
    cert: Path
    key: Path
    both: Path
    """Certificate and key in one file, as HAProxy wants them."""


@functools.cache
def authority() -> Authority:
    """Issued once; all engines show the same."""
    import trustme

    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = ca.issue_cert("bench.test", key_type=trustme.KeyType.ECDSA)
    files = Authority(*(RUN / name for name in ("ca.pem", "cert.pem", "key.pem", "both.pem")))
    ca.cert_pem.write_to_path(str(files.ca))
    issued.cert_chain_pems[0].write_to_path(str(files.cert))
    issued.private_key_pem.write_to_path(str(files.key))
    issued.private_key_and_cert_chain_pem.write_to_path(str(files.both))
    files.key.chmod(0o600)
    return files


def nginx_command(config: Path) -> list[str]:
    return [found("nginx"), "-e", "stderr", "-p", str(RUN), "-c", str(config)]


def start_origin(processes: Processes, core: int) -> tuple[Process, int]:
    """The nginx origin: 100 bytes everywhere, 1 MiB at /large. Beside it the files that engines serve themselves."""
    (port,) = free_ports(1)
    RUN.mkdir(exist_ok=True)
    (RUN / "large").write_bytes(bytes(LARGE_BYTES))
    (RUN / "files").mkdir(exist_ok=True)
    (RUN / "files" / "100k").write_bytes(bytes(FILE_BYTES))
    process = processes.start("origin", nginx_command(write("origin.conf", port=port)), core)
    process.wait_listening(port)
    return process, port


def start_stale_origin(processes: Processes, core: int) -> tuple[Process, int]:
    """The origin that silently closes its connections."""
    (port,) = free_ports(1)
    process = processes.start(
        "stale origin", [sys.executable, str(PEERS / "stale_origin.py"), str(port)], core
    )
    process.wait_listening(port)
    return process, port


def start_nginx(processes: Processes, engine: Engine, ports: Ports, core: int) -> dict[str, Process]:
    large = "proxy_buffers 16 64k; proxy_busy_buffers_size 256k;"
    buffers = large if "buffers" in engine.options else ""
    shown = authority()
    config = write(
        "nginx.conf",
        port=ports.own,
        http2=ports.http2,
        tls=ports.tls,
        cert=shown.cert,
        key=shown.key,
        origin=ports.origin,
        buffers=buffers,
    )
    return {"proxy": processes.start(engine.name, nginx_command(config), core)}


def start_haproxy(processes: Processes, engine: Engine, ports: Ports, core: int) -> dict[str, Process]:
    config = write(
        "haproxy.cfg",
        port=ports.own,
        http2=ports.http2,
        tls=ports.tls,
        cert=authority().both,
        origin=ports.origin,
    )
    return {"proxy": processes.start(engine.name, [found("haproxy"), "-db", "-f", str(config)], core)}


def start_aiohttp(processes: Processes, engine: Engine, ports: Ports, core: int) -> dict[str, Process]:
    script = str(PEERS / "aiohttp_proxy.py")
    command = [sys.executable, script, str(ports.own), str(ports.origin)]
    return {"proxy": processes.start(engine.name, command, core)}


def start_mitmproxy(processes: Processes, engine: Engine, ports: Ports, core: int) -> dict[str, Process]:
    command = [
        str(MITMPROXY),
        "--quiet",
        *("--mode", f"reverse:http://127.0.0.1:{ports.origin}"),
        *("--listen-host", "127.0.0.1", "--listen-port", str(ports.own)),
        *("--scripts", str(PEERS / "mitmproxy_addon.py")),
        *("--set", "flow_detail=0", "--set", "connection_strategy=lazy"),
        *("--set", f"confdir={RUN / 'mitmproxy'}"),
    ]
    return {"proxy": processes.start(engine.name, command, core)}


def start_nylon(processes: Processes, engine: Engine, ports: Ports, core: int) -> dict[str, Process]:
    """A gateway of one thread; `options`: entry and execution of its handler, its workers' group, or its library."""
    roles: dict[str, Process] = {}
    shown = authority()
    config: dict[str, object] = {
        "http": [f"127.0.0.1:{ports.own}", f"127.0.0.1:{ports.http2}"],
        "https": [f"127.0.0.1:{ports.tls}"],
        "tls": [{"cert": str(shown.cert), "key": str(shown.key), "domains": ["bench.test"]}],
        "runtime": {"threads": 1},
        "services": [
            {
                "name": "origin",
                "service_type": "http",
                "endpoints": [{"ip": "127.0.0.1", "port": ports.origin}],
            },
            {"name": "files", "service_type": "static", "static": {"root": str(RUN)}},
        ],
    }
    route: dict[str, object] = {
        "name": "all",
        "route": {"type": "host", "value": "*"},
        "paths": [
            {"path": "/files/{*path}", "service": {"name": "files"}},
            {"path": ["/", "/{*path}"], "service": {"name": "origin"}},
        ],
    }
    if entry := engine.options.get("entry"):
        route["middleware"] = [{"plugin": "bench", "entry": entry}]
        isolation = {"isolation": "process"} if "isolated" in engine.options else {}
        if group := engine.options.get("group"):
            config["messaging"] = [{"name": "nats", "servers": [f"nats://127.0.0.1:{ports.broker}"]}]
            config["plugins"] = [{"name": "bench", "messaging": "nats", "group": group}]
            roles |= start_worker(processes, engine, ports, core, group)
        elif language := engine.options.get("library"):
            plugin = {"name": "bench", "type": "ffi", "file": str(library(language))}
            config["plugins"] = [{**plugin, **isolation}]
        else:
            execution = engine.options.get("execution", "thread")
            plugin = {"name": "bench", "file": str(HERE / "handlers.py"), "execution": execution}
            config["plugins"] = [{**plugin, **isolation}]
    config["routes"] = [route]
    path = RUN / f"{engine.name.replace(' ', '-')}.json"
    path.write_text(json.dumps(config, indent=2))
    command = [sys.executable, str(HERE / "gateway.py"), str(path)]
    return {"proxy": processes.start(engine.name, command, core), **roles}


@functools.cache
def library(language: str) -> Path:
    """The shared library in this language, built once."""
    return libraries.build(language, RUN)


def start_worker(
    processes: Processes, engine: Engine, ports: Ports, core: int, group: str
) -> dict[str, Process]:
    """A nats-server of the row's own and one worker, on the engine's core: all that Nylon needs."""
    from nylon.embedded import find_nats_server

    command = [str(find_nats_server()), "-a", "127.0.0.1", "-p", str(ports.broker)]
    broker = processes.start(f"{engine.name} nats-server", command, core)
    broker.wait_listening(ports.broker)
    url = f"nats://127.0.0.1:{ports.broker}"
    worker = [sys.executable, str(HERE / "handlers.py"), url, group]
    return {
        "worker": processes.start(f"{engine.name} worker", worker, core),
        "nats-server": broker,
    }


def start_engine(processes: Processes, engine: Engine, origin: int, core: int) -> Running:
    """Starts a row and checks that it forwards, and refuses where its handler has to."""
    own, http2, tls, broker = free_ports(4)
    roles = engine.start(processes, engine, Ports(own, origin, http2, tls, broker), core)
    roles["proxy"].wait_listening(own)
    answer = (0, b"")
    for _ in range(100):
        answer = ask(own, {"x-api-key": "k123"})
        if answer == (200, SMALL.encode()):
            break
        # A worker may still be on its way to its broker.
        for process in roles.values():
            process.check_alive()
        time.sleep(0.1)
    else:
        raise Failed(f"{engine.name} answers {answer[0]} {answer[1][:200]!r}, not the origin's response")
    if engine.checks and (status := ask(own, {"x-api-key": "wrong"})[0]) != 401:
        raise Failed(f"{engine.name} answers {status} where its handler has to refuse with 401")
    return Running(own, http2, tls, roles)


def ask(port: int, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request to an engine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/shop/article", headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError as error:
        return 0, str(error).encode()
    finally:
        connection.close()


def native(name: str, language: str, entry: str = "check") -> Engine:
    """A row whose handler is in a shared library."""
    options = {"entry": entry, "library": language}
    return Engine(f"nylon {name}", start_nylon, checks=True, scenarios=("small", "paced"), options=options)


EVERYWHERE = (
    *("small", "paced", "large", "connection", "stale"),
    *("http2", "http2-large", "http2-tls", "tls", "handshake"),
)
ENGINES = [
    Engine("nginx", start_nginx, scenarios=(*EVERYWHERE, "static")),
    Engine("nginx 64k", start_nginx, scenarios=("large", "http2-large"), options={"buffers": "large"}),
    Engine("haproxy", start_haproxy, scenarios=EVERYWHERE),
    Engine("nylon", start_nylon, scenarios=(*EVERYWHERE, "static")),
    Engine(
        "nylon inline",
        start_nylon,
        checks=True,
        scenarios=EVERYWHERE,
        options={"entry": "check", "execution": "inline"},
    ),
    Engine("nylon pool", start_nylon, checks=True, scenarios=("small", "stale"), options={"entry": "check"}),
    Engine(
        "nylon async",
        start_nylon,
        checks=True,
        scenarios=("small", "stale"),
        options={"entry": "check_async"},
    ),
    Engine(
        "nylon nats",
        start_nylon,
        checks=True,
        scenarios=("small", "stale"),
        options={"entry": "check", "group": "bench"},
    ),
    Engine(
        "nylon nats async",
        start_nylon,
        checks=True,
        scenarios=("small",),
        options={"entry": "check_async", "group": "bench"},
    ),
    # The CPU of the plugin's process counts: it is a child of the gateway's.
    Engine(
        "nylon process",
        start_nylon,
        checks=True,
        scenarios=("small", "stale"),
        options={"entry": "check", "isolated": "yes"},
    ),
    Engine(
        "nylon process c",
        start_nylon,
        checks=True,
        options={"entry": "check", "library": "c", "isolated": "yes"},
    ),
    native("c", "c"),
    native("c chatty", "c", "chatty"),
    native("rust", "rust"),
    native("rust chatty", "rust", "chatty"),
    native("go", "go"),
    native("go inline", "go", "check_inline"),
    native("go chatty", "go", "chatty"),
    Engine("aiohttp", start_aiohttp, checks=True, scenarios=("small", "large", "connection")),
    Engine("mitmproxy", start_mitmproxy, checks=True, scenarios=("small", "large", "connection")),
]

NATIVE = [engine.name for engine in ENGINES if "library" in engine.options]

MITMPROXY_VENV = RUN / "venv-mitmproxy"
MITMPROXY = MITMPROXY_VENV / "bin" / "mitmdump"
DEBIAN = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "taskset": "util-linux",
    "setpriv": "util-linux",
}


def found(program: str) -> str:
    """The path of a program; daemons may live where an ordinary PATH does not look."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return shutil.which(program, path=path) or ""


def missing(engines: list[Engine]) -> list[str]:
    """What is not installed, each with how to get it."""
    names = {engine.name for engine in engines}
    needed = ["wrk", "h2load", "taskset", "setpriv", "nginx"] + ["haproxy"] * ("haproxy" in names)
    lacking = [name for name in needed if not found(name)]
    lines = libraries.lacking({engine.options.get("library", "") for engine in engines})
    if lacking:
        packages = " ".join(sorted({DEBIAN[name] for name in lacking}))
        lines.append(f"{', '.join(lacking)} not found. On Debian: apt-get install {packages}")
    modules = [(name, name) for name in ("uvloop", "trustme", "aiohttp")]
    for module, distribution in [("nylon", "nylon-gateway"), *modules]:
        if module == "aiohttp" and "aiohttp" not in names:
            continue
        if subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode != 0:
            lines.append(
                f"the Python package {distribution} not found for {Path(sys.executable).name}: "
                "`make bench` runs with everything in place"
            )
    return lines


def install_mitmproxy() -> None:
    """mitmproxy pins its dependencies narrowly, so it gets an environment of its own, once."""
    if MITMPROXY.exists():
        return
    print("installing mitmproxy into an environment of its own …", file=sys.stderr, flush=True)
    requirements = HERE / "requirements-mitmproxy.txt"
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(MITMPROXY_VENV)],
        [str(MITMPROXY_VENV / "bin" / "pip"), "install", "--quiet", "-r", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            shutil.rmtree(MITMPROXY_VENV, ignore_errors=True)
            raise Failed(f"cannot install mitmproxy ({' '.join(command[-3:])}):\n{done.stderr[-2000:]}")
