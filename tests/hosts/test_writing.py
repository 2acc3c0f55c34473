"""What a handler changes: each mutation arrives, in one well-formed message, or is refused."""

from __future__ import annotations

import pytest
from suite import Case
from support.origin import Reply


def test_method_is_replaced(case: Case) -> None:
    assert case.seen("write-method").method == "PUT"


def test_path_is_replaced_and_the_query_stays(case: Case) -> None:
    assert case.get("write-path", query=f"key={case.key}").status == 200
    targets = [request.target for request in case.origin.received("/elsewhere/a%20b")]
    assert f"/elsewhere/a%20b?key={case.key}" in targets


def test_query_is_replaced_and_the_path_stays(case: Case) -> None:
    assert case.seen("write-query", query="old=1").target == case.path("write-query") + "?a=1&b=%20"


def test_query_is_removed(case: Case) -> None:
    assert case.seen("remove-query", query="old=1").target == case.path("remove-query")


def test_request_headers_are_set_added_and_removed(case: Case) -> None:
    headers = [
        ("x-set", "old"),
        ("x-set", "older"),
        ("x-added", "first"),
        ("x-removed", "1"),
        ("x-removed", "2"),
    ]
    seen = case.seen("write-headers", [*headers, ("x-popped", "p"), ("x-kept", "k")])
    assert seen.all("x-set") == ["new"]
    assert seen.all("x-added") == ["first", "second"]
    assert seen.all("x-removed") == []
    assert seen.all("x-popped") == []
    assert seen.header("x-popped-was") == "p"
    assert seen.header("x-updated") == "1"
    assert seen.header("x-kept") == "k"
    assert (seen.header("x-latin") or "").encode("latin-1").decode() == "caf\u00e9"


def test_a_handler_reads_its_own_writes(case: Case) -> None:
    headers = {"x-added": "first", "x-removed": "1", "x-popped": "p"}
    assert case.seen("write-headers", headers).header("x-own-writes") == "new,first, second,False"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("route", "body"),
    [("write-body", b"\x00new\xff"), ("write-body-text", "caf\u00e9".encode()), ("empty-body", b"")],
)
def test_request_body_is_replaced_with_its_length(case: Case, route: str, body: bytes, method: str) -> None:
    assert case.send(method, route, body=b"what the client sent").status == 200
    (received,) = case.forwarded(route)
    assert received.body == body
    assert not received.chunked
    assert received.header("content-length") in ((None, "0") if not body else (str(len(body)),))


def test_request_body_that_was_read_is_replaced(case: Case) -> None:
    assert case.send("POST", "replace-read-body", body=b"abc").status == 200
    (received,) = case.forwarded("replace-read-body")
    assert received.body == b"cba"
    assert received.header("x-now") == "cba"


def test_framing_is_the_gateways_whatever_a_handler_writes(case: Case) -> None:
    assert case.send("POST", "write-framing", body=b"sent").status == 200
    (received,) = case.forwarded("write-framing")
    assert received.body == b"four"
    assert received.header("content-length") == "4"
    assert received.all("transfer-encoding") == []
    assert "upgrade" not in received.all("connection")


def test_what_is_no_http_is_refused_and_changes_nothing(case: Case) -> None:
    answer = case.send("GET", "refused-writes", {"x-a": "own"}, query="own")
    assert answer.status == 200
    (received,) = case.forwarded("refused-writes")
    assert received.header("x-passed") == ""
    assert received.header("x-a") == "own"
    assert (received.method, received.target) == ("GET", case.path("refused-writes") + "?own")
    assert received.all("x-injected") == []


@pytest.mark.parametrize(
    ("form", "body", "content_type"),
    [
        ("none", b"", None),
        ("raw", b"\x00\xff", None),
        ("text", "caf\u00e9".encode(), "text/plain; charset=utf-8"),
        ("html", "<p>caf\u00e9".encode(), "text/html; charset=utf-8"),
        ("json", None, "application/json"),
        ("own-type", b"{}", "application/problem+json"),
        ("framing", b"four", "text/plain; charset=utf-8"),
    ],
)
def test_an_answer_has_the_body_and_type_of_its_form(
    case: Case, form: str, body: bytes | None, content_type: str | None
) -> None:
    answer = case.get("answer", query=form)
    assert answer.status == 201
    assert answer.all("x-a") == ["1", "2"]
    assert answer.all("x-b") == []
    assert answer.header("content-type") == content_type
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.all("transfer-encoding") == []
    if body is None:
        assert answer.json() == {"a": [1, None, "caf\u00e9"]}
    else:
        assert answer.body == body
    assert case.forwarded("answer") == []


def test_an_answer_to_head_has_no_body_but_its_length(case: Case) -> None:
    answer = case.send("HEAD", "answer", query="raw")
    assert (answer.status, answer.body, answer.header("content-length")) == (201, b"", "2")


def test_redirect_sets_location_and_status(case: Case) -> None:
    answer = case.get("redirect")
    assert (answer.status, answer.header("location")) == (302, "/there")


def test_redirect_takes_a_code_and_quotes_its_url(case: Case) -> None:
    answer = case.get("redirect", query="308")
    assert (answer.status, answer.header("location")) == (308, "https://example.com/caf%C3%A9?a=b")


def test_response_of_the_origin_is_changed(case: Case) -> None:
    headers = [
        ("x-set", "old"),
        ("x-set", "older"),
        ("x-added", "first"),
        ("x-removed", "1"),
        ("x-kept", "k"),
    ]
    case.origin.answer(case.path("write-response"), Reply(200, headers, b"body"))
    answer = case.get("write-response")
    assert (answer.status, answer.body) == (418, b"body")
    assert answer.all("x-set") == ["new"]
    assert answer.all("x-added") == ["first", "second"]
    assert answer.all("x-removed") == []
    assert answer.header("x-kept") == "k"
    assert answer.header("x-item") == "418,new"


def test_response_body_is_replaced_before_its_phase(case: Case) -> None:
    headers = [("content-type", "text/html"), ("content-encoding", "identity")]
    case.origin.answer(case.path("replace-response-body"), Reply(200, headers, b"x" * 1000))
    answer = case.get("replace-response-body")
    assert answer.body == b"replaced"
    assert answer.header("content-length") == "8"
    assert answer.header("content-type") == "text/plain; charset=utf-8"


def test_what_comes_too_late_is_refused(case: Case) -> None:
    answer = case.get("write-too-late")
    assert answer.status == 200
    assert answer.header("x-refused") == "yes,yes,yes,yes"
    assert case.told() == [["yes", "yes"]]
