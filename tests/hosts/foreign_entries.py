"""Some entries of the suite once more, for the worker that knows nothing of Nylon: plain functions over plain frames.

`foreign_entries.py URL GROUP`. What each entry does is what the entry of its name in `entries/` does.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import sys
from typing import Any

from support.foreign_worker import Call, Entry, Worker

REQUEST, RESPONSE, BODY, LOGGING = 1, 2, 3, 4
NAMES = {
    REQUEST: "request_filter",
    RESPONSE: "response_filter",
    BODY: "response_body_filter",
    LOGGING: "logging",
}
SET_PATH, SET_QUERY, SET_FIELD, ADD_FIELD, REMOVE_FIELD, SET_BODY = 2, 3, 4, 5, 6, 7
STATUS, SET_RESPONSE_FIELD, ADD_RESPONSE_FIELD, RESPONSE_BODY, CHUNK = 8, 9, 10, 12, 13


async def tell(call: Call, what: Any) -> None:
    """Put `what` into the origin's journal."""

    def post() -> None:
        connection = http.client.HTTPConnection(call.payload["origin"], timeout=20)
        connection.request("POST", f"/_journal/{call.params['rest']}", json.dumps(what).encode())
        connection.getresponse().read()
        connection.close()

    await asyncio.to_thread(post)


async def onion(call: Call, stop: str = "") -> str:
    """`pass` and `stop-in`: every phase says that it ran, one of them may end."""
    phase, name = call.frame["p"], call.payload["name"]
    if phase == REQUEST and stop:
        call.ops += [[STATUS, 403], [RESPONSE_BODY, b"stopped"]]
    elif phase == REQUEST:
        call.ops.append([ADD_FIELD, "x-order", name.encode()])
    elif phase == RESPONSE:
        call.ops.append([ADD_RESPONSE_FIELD, "x-order", name.encode()])
    elif phase == BODY:
        call.ops.append([RESPONSE_BODY, await call.body("r") + b" " + name.encode()])
    else:
        await tell(call, name)
    return "end" if NAMES[phase] == stop else "next"


async def stop_in(call: Call) -> str:
    return await onion(call, stop=call.payload["stop"])


async def undecided(call: Call) -> None:
    call.ops.append([SET_FIELD, "x-undecided", b"1"])


async def draft_then_next(call: Call) -> str:
    call.ops += [[STATUS, 500], [SET_RESPONSE_FIELD, "x-draft", b"1"], [RESPONSE_BODY, b"draft"]]
    return "next"


async def serve(call: Call) -> str:
    answer = {"path": call.frame["q"]["p"], "payload": call.payload.get("name")}
    call.ops += [
        [STATUS, 299],
        [SET_RESPONSE_FIELD, "content-type", b"application/json"],
        [RESPONSE_BODY, json.dumps(answer).encode()],
    ]
    return "next" if call.payload.get("pass") else "end"


async def read_body(call: Call) -> str:
    digest = hashlib.sha256(await call.body("q")).hexdigest()
    call.ops.append([SET_FIELD, "x-seen", digest.encode()])
    return "next"


async def read_bytes(call: Call) -> str:
    value = (call.header("x-raw") or "").encode("latin-1")
    call.ops += [[SET_FIELD, "x-raw-copy", value], [SET_FIELD, "x-raw-hex", value.hex().encode()]]
    return "next"


async def write_path(call: Call) -> str:
    call.ops.append([SET_PATH, "/elsewhere/a%20b"])
    return "next"


async def write_query(call: Call) -> str:
    call.ops.append([SET_QUERY, "a=1&b=%20"])
    return "next"


async def remove_query(call: Call) -> str:
    call.ops.append([SET_QUERY, ""])
    return "next"


async def write_headers(call: Call) -> str:
    was = (call.header("x-popped") or "").encode()
    call.ops += [
        [SET_FIELD, "x-set", b"new"],
        [ADD_FIELD, "x-added", b"second"],
        [REMOVE_FIELD, "x-removed"],
        [REMOVE_FIELD, "x-popped"],
        [SET_FIELD, "x-popped-was", was],
        [SET_FIELD, "x-updated", b"1"],
        [SET_FIELD, "x-latin", "caf\u00e9".encode()],
    ]
    return "next"


async def write_body(call: Call) -> str:
    call.ops.append([SET_BODY, b"\x00new\xff"])
    return "next"


async def whole(call: Call) -> str:
    body = await call.body("r")
    call.ops += [[RESPONSE_BODY, body.upper() + b"!"], [SET_RESPONSE_FIELD, "x-whole", b"1"]]
    return "next"


async def touch(call: Call) -> str:
    call.ops.append([SET_RESPONSE_FIELD, "x-touched", b"1"])
    return "next"


async def by_chunk(call: Call) -> str:
    chunk = call.frame["c"]
    call.ops.append([CHUNK, chunk["d"].upper() + (b"!" if chunk["end"] else b"")])
    return "next"


async def by_chunk_raise(call: Call) -> str:
    if b"bad" in call.frame["c"]["d"]:
        raise ValueError("a bad chunk")
    return "next"


async def state(call: Call) -> str:
    phase = call.frame["p"]
    if phase == REQUEST:
        call.state["log"] = ["request"]
        kinds = {"none": None, "int": 2**40, "float": 0.5, "bytes": b"\x00\xff", "text": "caf\u00e9"}
        call.state["kinds"] = kinds
    elif phase == RESPONSE:
        call.state["log"].append("response")
    elif phase == BODY:
        call.state["log"].append("body")
        call.state["kinds"]["bytes"] = call.state["kinds"]["bytes"].hex()
        call.ops.append([RESPONSE_BODY, json.dumps(call.state).encode()])
    else:
        await tell(call, call.state["log"])
    return "next"


kept: dict[bytes, list[str]] = {}
"""What sessions of `closure` have seen."""


async def closure(call: Call) -> str:
    phase, session = call.frame["p"], call.frame["s"]
    if phase == REQUEST:
        kept[session] = [f"request {call.header('x-who')}"]
    elif phase == RESPONSE:
        kept[session].append("response")
    elif phase == BODY:
        kept[session].append("body")
        call.ops.append([RESPONSE_BODY, json.dumps(kept[session]).encode()])
    else:
        await tell(call, kept.pop(session))
    return "next"


async def log_facts(call: Call) -> str:
    response, sent = call.frame["r"], call.frame["sn"]
    facts = {
        "status": response["s"],
        "bytes": sent["b"],
        "duration": sent["d"] / 1e9 if "d" in sent else None,
        "error": sent.get("e"),
        "method": call.frame["q"]["m"],
        "path": call.frame["q"]["p"],
        "header": call.header("x-origin", "r"),
        "request_id": call.frame["f"]["id"].hex(),
    }
    await tell(call, facts)
    return "next"


EVERY = (REQUEST, RESPONSE, BODY, LOGGING)
ENTRIES = {
    "pass": Entry(dict.fromkeys(EVERY, onion)),
    "stop-in": Entry(dict.fromkeys(EVERY, stop_in)),
    "undecided": Entry({REQUEST: undecided}),
    "draft-then-next": Entry({REQUEST: draft_then_next}),
    "serve": Entry({REQUEST: serve}),
    "read-body": Entry({REQUEST: read_body}, {"b": True}),
    "read-body-awaited": Entry({REQUEST: read_body}),
    "read-bytes": Entry({REQUEST: read_bytes}),
    "write-path": Entry({REQUEST: write_path}),
    "write-query": Entry({REQUEST: write_query}),
    "remove-query": Entry({REQUEST: remove_query}),
    "write-headers": Entry({REQUEST: write_headers}),
    "write-body": Entry({REQUEST: write_body}),
    "whole": Entry({BODY: whole}),
    "touch": Entry({RESPONSE: touch}),
    "by-chunk": Entry({BODY: by_chunk}, {"c": True}),
    "by-chunk-raise": Entry({BODY: by_chunk_raise}, {"c": True}),
    "state": Entry(dict.fromkeys(EVERY, state)),
    "closure": Entry(dict.fromkeys(EVERY, closure), {"s": True}),
    "log-facts": Entry({LOGGING: log_facts}),
}

if __name__ == "__main__":
    asyncio.run(Worker(sys.argv[2], ENTRIES).serve(sys.argv[1]))
