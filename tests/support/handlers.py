"""One handler run through the test client: what it sees and what it raises."""

from collections.abc import Callable
from typing import Any

import pytest

from nylon import (
    Context,
    NylonPlugin,
)
from nylon.testing import PluginClient, Result


def run(
    handler: Callable[[Context], Any],
    *,
    wants_body: bool = False,
    method: str = "GET",
    url: str = "/",
    **kw: Any,
) -> Result:
    """One request through one request_filter that goes on unless it has decided."""
    plugin = NylonPlugin()

    @plugin.request_filter("e", body=wants_body)
    def call(ctx: Context) -> None:
        handler(ctx)
        if not decided(ctx):
            ctx.next()

    def decided(ctx: Context) -> bool:
        return getattr(handler, "decides", False)

    with PluginClient(plugin) as client:
        return client.request(method, url, entry="e", **kw)


def read(look: Callable[[Context], Any], **kw: Any) -> Any:
    """What `look` sees in a request_filter."""
    seen: list[Any] = []
    result = run(lambda ctx: seen.append(look(ctx)), **kw)
    assert result.error is None, result.error
    return seen[0]


def raised(do: Callable[[Context], Any], kind: type[Exception], **kw: Any) -> str:
    """The text of what `do` raises."""

    def handler(ctx: Context) -> str:
        with pytest.raises(kind) as info:
            do(ctx)
        return str(info.value)

    return read(handler, **kw)
