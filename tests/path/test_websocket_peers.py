"""WebSockets between a client and a service by somebody else's hand pass unchanged, plain and over TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import ClientSession, WSMsgType, web
from support.certificates import Authority
from support.configs import gateway_config
from support.processes import GatewayProcess


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=["chat"])
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT and message.data == "bye":
            await socket.close(code=4001, message=b"as you wish")
        elif message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def converse(gateway: GatewayProcess, scheme: str, tls: ssl.SSLContext | None, compress: int) -> None:
    _, port = gateway.address
    url = f"{scheme}://localhost:{port}/ws"
    async with (
        ClientSession() as session,
        session.ws_connect(url, protocols=["chat"], compress=compress, ssl=tls or True) as socket,
    ):
        assert socket.protocol == "chat"
        assert socket.compress == compress
        for text in ("", "ä€𝄞", "x" * 200_000):
            await socket.send_str(text)
            assert await socket.receive_str(timeout=20) == text
        data = bytes(range(256)) * 400
        await socket.send_bytes(data)
        assert await socket.receive_bytes(timeout=20) == data
        await socket.ping(b"still there")
        await socket.send_str("bye")
        closing = await socket.receive(timeout=20)
        assert (closing.type, closing.data, closing.extra) == (WSMsgType.CLOSE, 4001, "as you wish")


@pytest.mark.parametrize("compress", [0, 15], ids=["as it is", "deflated"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_messages_pings_and_close_codes_pass(scheme: str, compress: int, tmp_path: Path) -> None:
    async def run() -> None:
        app = web.Application()
        app.router.add_get("/ws", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            sections, tls = {}, None
            if scheme == "wss":
                authority = Authority(tmp_path)
                certificate = authority.issue("localhost", "localhost")
                sections = {"http": [], "https": ["127.0.0.1:0"], "tls": [certificate]}
                tls = authority.client("http/1.1")
            config = gateway_config(runner.addresses[0][:2], **sections)
            with await asyncio.to_thread(GatewayProcess, config) as gateway:
                await converse(gateway, scheme, tls, compress)
        finally:
            await runner.cleanup()

    asyncio.run(run())
