"""The example of docs/http2.md, tried."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from h2.settings import SettingCodes
from support.http2 import Http2Connection
from support.origin import Origin
from support.processes import GatewayProcess

PAGE = Path(__file__).parents[2] / "docs" / "http2.md"


def test_the_example_serves_http2_within_its_limits(origin: Origin) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    config = yaml.safe_load(text)
    config["http"] = ["127.0.0.1:0"]
    (endpoint,) = config["services"][0]["endpoints"]
    endpoint["ip"], endpoint["port"] = origin.address
    with GatewayProcess(config) as gateway, Http2Connection(gateway.address) as connection:
        assert connection.request("GET", "/").status == 200
        settings = connection.h2.remote_settings
        assert settings[SettingCodes.MAX_CONCURRENT_STREAMS] == config["limits"]["max_concurrent_streams"]
        assert settings[SettingCodes.MAX_HEADER_LIST_SIZE] == config["limits"]["max_header_bytes"]
