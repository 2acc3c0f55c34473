"""Services of type `static`: the right file with the right head, and nothing from outside of its root."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import Answer, Connection, fetch
from support.configs import Config, gateway_config, route
from support.processes import GatewayProcess

LARGE = os.urandom(3_000_000)


def static(name: str, root: Path, **more: object) -> Config:
    return {"name": name, "service_type": "static", "static": {"root": str(root), **more}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("site")
    (base / "secret.txt").write_text("secret")
    root = base / "root"
    (root / "docs").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".well-known").mkdir()
    for path, text in {
        "index.html": "<h1>home</h1>",
        "docs/index.html": "<h1>docs</h1>",
        "docs/a b.txt": "0123456789",
        "app.js": "let a = 1;",
        "empty.css": "",
        ".git/config": "secret",
        ".env": "secret",
        ".well-known/security.txt": "contact",
        "unknown.zzz": "bytes",
    }.items():
        (root / path).write_text(text)
    (root / "large.bin").write_bytes(LARGE)
    (root / "app.js.gz").write_bytes(gzip.compress(b"let a = 1;"))
    (root / "app.js.br").write_bytes(b"brotli, as far as a test can tell")
    (root / "out.txt").symlink_to(base / "secret.txt")
    (root / "up").symlink_to("..")
    (root / "alias.txt").symlink_to("docs/a b.txt")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture(scope="module")
def gateway(site: Path) -> Iterator[GatewayProcess]:
    paths = [
        route("/assets/{*path}", "files", rewrite="/"),
        route("/spa/{*path}", "spa", rewrite="/"),
        route("/hidden/{*path}", "hidden", rewrite="/"),
        route(["/", "/{*path}"], "files"),
    ]
    services = [
        static("files", site),
        static("spa", site, spa=True, precompressed=False),
        static("hidden", site, hidden=True, index="a b.txt"),
    ]
    with GatewayProcess(gateway_config(None, paths, services=services)) as process:
        yield process


class Ask:
    """Requests to the gateway of this file."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.address = gateway.address

    def __call__(self, path: str, method: str = "GET", **headers: str) -> Answer:
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return fetch(self.address, method, path, fields)


@pytest.fixture
def ask(gateway: GatewayProcess) -> Ask:
    return Ask(gateway)


@pytest.mark.parametrize(
    ("path", "content_type", "text"),
    [
        ("/", "text/html; charset=utf-8", b"<h1>home</h1>"),
        ("/docs/", "text/html; charset=utf-8", b"<h1>docs</h1>"),
        ("/docs/a%20b.txt", "text/plain; charset=utf-8", b"0123456789"),
        ("/assets/docs/a%20b.txt?v=2", "text/plain; charset=utf-8", b"0123456789"),
        ("/app.js", "text/javascript; charset=utf-8", b"let a = 1;"),
        ("/empty.css", "text/css; charset=utf-8", b""),
        ("/unknown.zzz", "application/octet-stream", b"bytes"),
        ("/alias.txt", "text/plain; charset=utf-8", b"0123456789"),
        ("/.well-known/security.txt", "text/plain; charset=utf-8", b"contact"),
        ("/hidden/docs/", "text/plain; charset=utf-8", b"0123456789"),
        ("/hidden/.env", "application/octet-stream", b"secret"),
        ("/large.bin", "application/octet-stream", LARGE),
    ],
)
def test_a_file_comes_whole_with_its_type(ask: Ask, path: str, content_type: str, text: bytes) -> None:
    answer = ask(path)
    assert (answer.status, answer.header("content-type"), answer.body) == (200, content_type, text)
    assert answer.header("content-length") == str(len(text))
    assert answer.header("accept-ranges") == "bytes"
    head = ask(path, "HEAD")
    assert (head.status, head.header("content-length"), head.body) == (200, str(len(text)), b"")


@pytest.mark.parametrize(
    "path",
    [
        "/missing",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/docs/..%2f..%2fsecret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/app.js%00.txt",
        "/out.txt",
        "/up/secret.txt",
        "/up/root/app.js",
        "/.git/config",
        "/.env",
        "/%2eenv",
        "/app.js/",
        "/fifo",
        "/docs%2fa%20b.txt",
        "/hidden/out.txt",
    ],
)
def test_what_is_outside_of_the_root_or_hidden_is_never_served(ask: Ask, path: str) -> None:
    answer = ask(path)
    assert answer.status in (400, 404)
    assert b"secret" not in answer.body.replace(path.encode(), b"")


def test_a_directory_is_asked_for_with_its_slash(ask: Ask) -> None:
    answer = ask("/docs?a=b")
    assert (answer.status, answer.header("location"), answer.body) == (301, "/docs/?a=b", b"")


def test_only_reading_is_allowed(ask: Ask) -> None:
    with Connection(ask.address) as connection:
        answer = connection.request("POST", "/app.js", [], b"x" * 1000)
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")
    assert ask("/app.js").status == 200


@pytest.mark.parametrize(
    ("wanted", "status", "content_range", "body"),
    [
        ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=-2", 206, "bytes 8-9/10", b"89"),
        ("bytes=0-99", 206, "bytes 0-9/10", b"0123456789"),
        ("bytes=10-", 416, "bytes */10", None),
        ("lines=1-2", 200, None, b"0123456789"),
        ("bytes=x", 200, None, b"0123456789"),
    ],
)
def test_a_range_gives_that_part(
    ask: Ask, wanted: str, status: int, content_range: str | None, body: bytes | None
) -> None:
    answer = ask("/docs/a%20b.txt", range=wanted)
    assert (answer.status, answer.header("content-range")) == (status, content_range)
    assert body is None or answer.body == body


def test_several_ranges_come_in_parts_and_never_more_than_the_file(ask: Ask) -> None:
    answer = ask("/large.bin", range="bytes=0-1,100-101")
    assert answer.status == 206
    assert (answer.header("content-type") or "").startswith("multipart/byteranges")
    assert LARGE[0:2] in answer.body
    assert LARGE[100:102] in answer.body
    greedy = ask("/large.bin", range="bytes=" + ",".join("0-" for _ in range(100)))
    assert len(greedy.body) <= len(LARGE) + 1000


def test_conditions_are_judged_by_validators(ask: Ask) -> None:
    path = "/docs/a%20b.txt"
    first = ask(path)
    etag, modified = first.header("etag"), first.header("last-modified")
    assert etag is not None
    assert modified is not None
    assert ask(path, if_none_match=etag).status == 304
    assert ask(path, if_none_match='"other", ' + etag).status == 304
    assert ask(path, if_none_match='"other"').status == 200
    assert ask(path, if_modified_since=modified).status == 304
    assert ask(path, if_modified_since="Sat, 01 Jan 2000 00:00:00 GMT").status == 200
    assert ask(path, if_match='"other"').status == 412
    assert ask(path, if_unmodified_since="Sat, 01 Jan 2000 00:00:00 GMT").status == 412
    assert ask(path, range="bytes=0-1", if_range=etag).status == 206
    assert ask(path, range="bytes=0-1", if_range='"other"').status == 200
    not_modified = ask(path, if_none_match=etag)
    assert (not_modified.body, not_modified.header("etag")) == (b"", etag)


@pytest.mark.parametrize(
    ("accepts", "encoding"),
    [("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.1", "gzip"), ("identity", None), ("", None)],
)
def test_an_encoding_that_lies_there_is_sent_to_who_accepts_it(
    ask: Ask, accepts: str, encoding: str | None
) -> None:
    answer = ask("/app.js", accept_encoding=accepts)
    assert (answer.status, answer.header("content-encoding")) == (200, encoding)
    assert answer.header("content-type") == "text/javascript; charset=utf-8"
    assert answer.header("vary") == "accept-encoding"
    if encoding == "gzip":
        assert gzip.decompress(answer.body) == b"let a = 1;"
    plain = ask("/app.js")
    assert (answer.header("etag") == plain.header("etag")) == (encoding is None)


def test_an_application_gets_its_page_for_paths_that_are_its_own(ask: Ask) -> None:
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    assert ask("/spa/users/7", accept=browser).body == b"<h1>home</h1>"
    assert ask("/spa/users/john.doe", accept=browser).body == b"<h1>home</h1>"
    assert ask("/spa/missing.js", accept="*/*").status == 404
    assert ask("/spa/api/users", accept="application/json").status == 404
    assert ask("/spa/app.js", accept="*/*").body == b"let a = 1;"
    assert ask("/users/7", accept=browser).status == 404


def test_what_is_deployed_anew_is_served_at_once(tmp_path: Path) -> None:
    for version in "12":
        (tmp_path / version).mkdir()
        (tmp_path / version / "file.txt").write_text(version)
    current = tmp_path / "current"
    current.symlink_to("1")
    config = gateway_config(None, [route("/{*path}", "files")], services=[static("files", current)])
    with GatewayProcess(config) as gateway:
        assert fetch(gateway.address, "GET", "/file.txt").body == b"1"
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(current)
        assert fetch(gateway.address, "GET", "/file.txt").body == b"2"


PLUGIN = """
from nylon import NylonPlugin

plugin = NylonPlugin()


@plugin.response_filter("mark")
def mark(ctx):
    ctx.response.set_header("x-mark", str(ctx.response.status))


@plugin.response_body_filter("upper")
def upper(ctx):
    ctx.response.body_raw(ctx.response.read_body().upper())
"""


def test_filters_see_a_file_like_any_response(site: Path, tmp_path: Path) -> None:
    source = tmp_path / "files_plugin.py"
    source.write_text(PLUGIN)
    chain = [{"plugin": "p", "entry": name} for name in ("mark", "upper")]
    config = gateway_config(
        None,
        [route("/{*path}", "files", middleware=chain)],
        services=[static("files", site)],
        plugins=[{"name": "p", "type": "python", "file": str(source)}],
    )
    with GatewayProcess(config) as gateway:
        answer = fetch(gateway.address, "GET", "/app.js")
        assert (answer.status, answer.header("x-mark"), answer.body) == (200, "200", b"LET A = 1;")
        missing = fetch(gateway.address, "GET", "/missing")
        assert (missing.status, missing.header("x-mark")) == (404, "404")
