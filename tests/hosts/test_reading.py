"""What a handler reads: the request, the response, and what the configuration gave it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import Any

import pytest
from routes import MAX_BODY
from suite import Case
from support.client import Connection, chunked, fetch, request_bytes
from support.origin import Reply

LARGE = bytes(range(256)) * 800  # 200 KiB


def read(
    case: Case, *, query: str = "", headers: Any = (), method: str = "GET", body: bytes | None = None
) -> Any:
    answer = case.send(method, "read-request", headers, body, query=query)
    assert answer.status == 200, answer
    return answer.json()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PURGE"])
def test_method_is_the_clients(case: Case, method: str) -> None:
    assert read(case, method=method)["method"] == method


def test_path_stays_percent_encoded(case: Case) -> None:
    path = f"/read-request/{case.key}/a%20b%2Fc"
    assert fetch(case.address, "GET", path).json()["path"] == path


def test_url_is_the_one_that_the_client_asked_for(case: Case) -> None:
    seen = read(case, query="a=1", headers={"host": "shop.example:8080"})
    assert seen["url"] == f"http://shop.example:8080/read-request/{case.key}?a=1"
    assert seen["host"] == "shop.example:8080"
    assert seen["scheme"] == "http"


@pytest.mark.parametrize("query", ["", "a=1&a=2&b=%20x+y&c=&d"])
def test_query_is_given_as_written(case: Case, query: str) -> None:
    assert read(case, query=query)["query"] == query


def test_query_params_are_decoded(case: Case) -> None:
    params = read(case, query="a=1&a=2&b=%20x+y&c=&e=%C3%A9")["query_params"]
    assert params == {"a": ["1", "2"], "b": [" x y"], "c": [""], "e": ["\u00e9"]}


def test_route_params_are_decoded(case: Case) -> None:
    answer = fetch(case.address, "GET", f"/read-params/a%20b%C3%A9/{case.key}/c")
    expected = {"name": "a b\u00e9", "rest": f"{case.key}/c"}
    assert answer.json()["params"] == expected
    assert answer.json()["route_params"] == expected


def test_http_version_is_the_clients(case: Case) -> None:
    assert read(case)["http_version"] == "1.1"
    with Connection(case.address) as connection:
        connection.send(request_bytes("GET", case.path("read-request")).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert connection.read_answer().json()["http_version"] == "1.0"


def test_client_ip_is_the_connections(case: Case) -> None:
    assert read(case, headers={"x-forwarded-for": "6.6.6.6"})["client_ip"] == "127.0.0.1"


def test_cookies_are_a_mapping(case: Case) -> None:
    assert read(case, headers={"cookie": "a=1; b=x=y"})["cookies"] == {"a": "1", "b": "x=y"}
    assert read(case)["cookies"] == {}


def test_timestamp_is_when_the_request_came(case: Case) -> None:
    before = time.time()
    timestamp = read(case)["timestamp"]
    assert before - 1 <= timestamp <= time.time() + 1


def test_body_is_there_where_it_was_declared(case: Case) -> None:
    seen = read(case, method="POST", body=b"\x00caf\xc3\xa9\xff")
    assert seen["body"].encode("latin-1") == b"\x00caf\xc3\xa9\xff"
    assert seen["bytes"] == 7


def test_empty_body_is_empty(case: Case) -> None:
    assert (read(case)["body"], read(case)["bytes"]) == ("", 0)
    assert read(case, method="POST", body=b"")["body"] == ""


def test_body_parses_as_json(case: Case) -> None:
    assert case.send("POST", "read-json", body=b'{"numbers": [1, 2, 3]}').json() == {"sum": 6}


def test_body_that_is_no_json_is_the_handlers_error(case: Case) -> None:
    assert case.send("POST", "read-json", body=b"{").status == 500


@pytest.mark.parametrize(
    "body", [b"", b"small", LARGE, b"x" * MAX_BODY], ids=["empty", "small", "large", "limit"]
)
@pytest.mark.parametrize("route", ["read-body", "read-body-awaited"])
def test_body_that_was_read_is_still_forwarded(case: Case, route: str, body: bytes) -> None:
    assert case.send("POST", route, body=body).status == 200
    (received,) = case.forwarded(route)
    assert received.body == body
    assert received.header("x-seen") == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("route", ["read-body", "read-body-awaited"])
def test_chunked_body_is_read_whole(case: Case, route: str) -> None:
    with Connection(case.address) as connection:
        headers = {"transfer-encoding": "chunked"}
        connection.send(request_bytes("POST", case.path(route), headers) + chunked(b"first ", b"second"))
        assert connection.read_answer().status == 200
    (received,) = case.forwarded(route)
    assert received.body == b"first second"


@pytest.mark.parametrize("route", ["read-body", "read-body-awaited", "too-large-continue"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_over_the_limit_is_refused_whatever_the_policy(case: Case, route: str, framing: str) -> None:
    body = b"x" * (MAX_BODY + 1)
    headers = {"transfer-encoding": "chunked"} if framing == "chunked" else {}
    wire = chunked(body) if framing == "chunked" else body
    answer = case.send("POST", route, headers, wire)
    assert answer.status == 413
    assert case.forwarded(route) == []


def test_body_that_was_not_declared_says_what_to_do(case: Case) -> None:
    answer = case.send("POST", "read-body-undeclared", body=b"x")
    assert re.search("body ?= ?true|with_body", answer.body.decode(), re.IGNORECASE)


def test_headers_are_a_mapping(case: Case) -> None:
    headers = [("X-One", "1"), ("x-many", "a"), ("X-MANY", "b, c"), ("x-empty", "")]
    seen = case.get("read-headers", headers).json()
    # Beside the client's fields there are those that the gateway writes for services.
    seen["names"] = [name for name in seen["names"] if not name.startswith("x-forwarded-")]
    seen["items"] = [item for item in seen["items"] if not item[0].startswith("x-forwarded-")]
    assert seen == {
        "got": "1",
        "item": "1",
        "missing": None,
        "default": "none",
        "missing_item": "no x-missing",
        "in": [True, False],
        "joined": "a, b, c",
        "names": ["x-one", "x-many", "x-empty"],
        "items": [["x-empty", ""], ["x-many", "a, b, c"], ["x-one", "1"]],
        "length_fits": True,
        "empty": "",
    }


def test_lines_of_a_repeated_header_are_told_apart(case: Case) -> None:
    seen = case.get("read-repeated", [("x-many", "a"), ("X-MANY", "b, c")]).json()
    assert seen == [["a", "b, c"], []]


@pytest.mark.parametrize("raw", [b"\xff\xfe\x80", b"caf\xe9", b"caf\xc3\xa9", b"\xed\xa0\x80", b'"\\;,\t='])
def test_header_value_of_any_bytes_survives_a_handler(case: Case, raw: bytes) -> None:
    seen = case.seen("read-bytes", {"x-raw": raw.decode("latin-1")})
    assert seen.header("x-raw") == raw.decode("latin-1")
    assert seen.header("x-raw-copy") == raw.decode("latin-1")
    assert seen.header("x-raw-hex") == raw.hex()


def test_payload_is_the_middlewares(case: Case) -> None:
    payload = case.get("read-payload").json()["payload"]
    assert payload == {
        "origin": case.origin.authority,
        "text": "caf\u00e9",
        "number": 2**40,
        "nested": {"list": [1, None, True, 0.5]},
    }


def test_templates_of_a_payload_come_from_the_request(case: Case) -> None:
    headers = {"x-user": "ann ${env(HOME)} \xc0"}
    payload = case.get("read-templates", headers, query="q=%0d%0a%00%22%7D").json()["payload"]
    assert payload == {
        "origin": case.origin.authority,
        "whole": "ann ${env(HOME)} \ufffd",
        "nested": [{"deep": 'a \r\n\0"} b'}, "${header(x-user)}", 7, None],
        "known": "ab",
    }
    payload = case.get("read-templates").json()["payload"]
    assert (payload["whole"], payload["nested"][0]["deep"]) == ("", "a NONE b")


def test_first_phase_finds_no_state_first_attempt_and_a_draft(case: Case) -> None:
    seen = read(case)
    assert (seen["state"], seen["attempt"], seen["status"]) == ({}, 1, 200)


def test_request_ids_are_new_for_each_request(case: Case) -> None:
    ids = {read(case)["request_id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", text) for text in ids)


def test_plugin_is_initialized_once_before_the_first_call(case: Case) -> None:
    assert read(case)["initialized"]["times"] == 1


@pytest.mark.not_on("remote*", reason="a worker's plugin has no config in the gateway's file")
def test_initialize_gets_the_config(case: Case) -> None:
    assert read(case)["initialized"]["config"] == {"greeting": "hello"}


def test_response_is_read_in_response_filter(case: Case) -> None:
    headers = [("x-origin", "caf\xe9"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
    case.origin.answer(case.path("read-response"), Reply(404, headers, b"four"))
    answer = case.get("read-response")
    assert answer.status == 404
    seen = [404, b"caf\xe9".hex(), ["a=1", "b=2"], None, 4, None, None, "GET", case.path("read-response")]
    assert json.loads(answer.header("x-seen") or "") == seen
    assert answer.all("set-cookie") == ["a=1", "b=2"]


def test_response_body_cannot_be_read_before_its_phase(case: Case) -> None:
    answer = case.get("read-response-body-early")
    assert answer.status == 200
    assert "response_body_filter" in (answer.header("x-refused") or "")


@pytest.mark.parametrize("body", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_response_body_is_read_whole_in_its_phase(case: Case, body: bytes) -> None:
    case.origin.answer(case.path("read-response-body"), Reply(200, [], body))
    answer = case.get("read-response-body")
    assert answer.body == body
    assert answer.header("x-seen") == f"{len(body)} {hashlib.sha256(body).hexdigest()} {len(body)}"
