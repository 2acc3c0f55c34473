"""How handlers speak to the origin of the tests, from whichever process they run in.

Every middleware of this suite has the origin's address in its payload, and every route a parameter `rest` that a
test makes unique: the key under which it is told things.
"""

import http.client
import json
from typing import Any


def tell(ctx: Any, what: Any) -> None:
    """Put `what` into the origin's journal, under the request's key."""
    _ask(ctx, "POST", f"/_journal/{ctx.params['rest']}", json.dumps(what).encode())


def wait_at_gate(ctx: Any) -> None:
    """Block until the test opens the gate named like the request's key."""
    _ask(ctx, "GET", f"/_gate/{ctx.params['rest']}", None)


def gate_url(ctx: Any) -> str:
    """The gate's URL, for clients of the handler's own."""
    return f"http://{ctx.payload['origin']}/_gate/{ctx.params['rest']}"


def _ask(ctx: Any, method: str, path: str, body: bytes | None) -> None:
    connection = http.client.HTTPConnection(ctx.payload["origin"], timeout=20)
    try:
        connection.request(method, path, body)
        connection.getresponse().read()
    finally:
        connection.close()
