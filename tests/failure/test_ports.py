"""Addresses that cannot be had, and addresses that nobody chose."""

from __future__ import annotations

import socket

import pytest
from support.client import fetch
from support.configs import gateway_config
from support.origin import Origin
from support.processes import GatewayProcess

from nylon import Gateway
from nylon.errors import GatewayError


def assert_taken(config: dict[str, object], port: int) -> None:
    with pytest.raises(GatewayError) as caught:
        Gateway(config).start()
    text = str(caught.value)
    assert str(port) in text
    assert "\n" not in text.strip()


def test_a_port_in_use_is_one_clear_line(origin: Origin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert_taken(gateway_config(origin.address, http=[f"127.0.0.1:{port}"]), port)


def test_a_port_of_another_nylon_is_in_use_too(origin: Origin) -> None:
    """Although each of its threads shares that port with the others."""
    with GatewayProcess(gateway_config(origin.address)) as other:
        port = other.address[1]
        assert_taken(gateway_config(origin.address, http=[f"127.0.0.1:{port}"]), port)
    with Gateway(gateway_config(origin.address)) as here:
        port = int(here.urls[0].rsplit(":", 1)[1])
        assert_taken(gateway_config(origin.address, http=[f"127.0.0.1:{port}"]), port)


def test_a_gateway_that_cannot_start_leaves_nothing_open(origin: Origin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
        other.close()
        addresses = [f"127.0.0.1:{free}", f"127.0.0.1:{taken.getsockname()[1]}"]
        with pytest.raises(GatewayError):
            Gateway(gateway_config(origin.address, http=addresses)).start()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", free)).close()


def test_port_0_is_one_port_for_all_threads(origin: Origin) -> None:
    config = gateway_config(origin.address, http=["127.0.0.1:0", "127.0.0.1:0"], runtime={"threads": 4})
    with Gateway(config) as gateway:
        assert len(set(gateway.urls)) == 2
        for url in gateway.urls:
            assert not url.endswith(":0")
            host, port = url.removeprefix("http://").split(":")
            for _ in range(20):
                assert fetch((host, int(port)), "GET", "/").status == 200
