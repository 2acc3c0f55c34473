"""A plugin in Rust that cannot be made with its config: the gateway does not start, and somebody says why."""

from __future__ import annotations

import pytest
from support.configs import gateway_config, route
from support.native import rust_library
from support.origin import Origin

from nylon import Gateway, NylonError


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ({"error": "nobody could get in"}, "cannot be initialized: nobody could get in"),
        ({"panic": "out of luck"}, "out of luck"),
    ],
)
def test_plugin_that_cannot_be_made_is_an_error_at_start_and_tells_its_reason(
    origin: Origin, capfd: pytest.CaptureFixture[str], refusal: dict[str, str], reason: str
) -> None:
    plugin = {"name": "app", "type": "ffi", "file": str(rust_library("nylon-suite-plugin"))}
    paths = [route("/{*rest}", middleware=[{"plugin": "app", "entry": "fine"}])]
    config = gateway_config(origin.address, paths, plugins=[{**plugin, "config": {"refuse": refusal}}])
    with pytest.raises(NylonError, match="could not initialize") as caught:
        Gateway(config).start()
    assert "libnylon_suite.so" in str(caught.value)
    printed = capfd.readouterr().err
    assert reason in printed
    if "panic" in refusal:
        assert "panicked at" in printed
