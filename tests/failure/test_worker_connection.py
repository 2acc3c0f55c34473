"""The contract with nats-py: its connection carries our bytes over kills, restarts, passwords and TLS.

The hooked transport is nats-py's private API. These tests say what must hold for every version in the range of
pyproject.toml; the plain path, its public API, is the reference.
"""

import asyncio
import json
import logging
import ssl
import subprocess

import msgpack
import nats.errors
import pytest
import uvloop
from requester import Requester, serving, until

from nylon import NylonPlugin, WorkerError
from nylon.embedded import NatsServer

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def echo_plugin():
    plugin = NylonPlugin()

    @plugin.request_filter("echo")
    async def echo(ctx):
        if ctx.request.query:
            await asyncio.sleep(0.001)
        ctx.request.headers["x-echo"] = ctx.request.path
        ctx.next()

    @plugin.request_filter("pooled")
    def pooled(ctx):
        ctx.request.headers["x-echo"] = ctx.request.path
        ctx.next()

    return plugin


async def ask(gateway, number, entry="echo"):
    """One call whose answer must be its own; asked again while the broker is away, as a gateway would."""
    path = f"/{number}"
    head = {"m": "GET", "p": path, "q": "wait=1" if number % 3 else None, "h": []}
    request = {key: value for key, value in head.items() if value is not None}
    while True:
        answer = await gateway.call(entry, q=request, patience=10)
        if answer.outcome not in ("no responders", "busy"):
            break
        await asyncio.sleep(0.01)
    assert answer.outcome == "next"
    assert answer.ops == [[4, "x-echo", path.encode()]]
    return True


async def ask_all(gateway, count=500, at_once=50):
    room = asyncio.Semaphore(at_once)

    async def one(number):
        async with room:
            return await ask(gateway, number, "pooled" if number % 5 == 0 else "echo")

    return sum(await asyncio.gather(*(one(n) for n in range(count))))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A certificate for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


def guarded(kind, certificates):
    """The broker's configuration, and what worker and requester need to get in."""
    if kind == "password":
        config = 'authorization { user: "nylon", password: "s3cret" }\n'
        options = {"user": "nylon", "password": "s3cret"}
        return config, options, options
    if kind == "tls":
        files = f'cert_file: "{certificates}/cert.pem", key_file: "{certificates}/key.pem"'
        config = f'tls {{ {files} }}\nauthorization {{ token: "t0ken" }}\n'
        context = ssl.create_default_context(cafile=str(certificates / "cert.pem"))
        worker = {"token": "t0ken", "tls_ca": str(certificates / "cert.pem")}
        return config, worker, {"token": "t0ken", "tls": context}
    return "", {}, {}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("transport", ["hooked", "plain"])
@pytest.mark.parametrize("guard", ["open", "password", "tls"])
def test_500_of_500_calls_are_answered_before_and_after_the_broker_is_killed(
    loop, transport, guard, certificates
):
    config, worker_options, client_options = guarded(guard, certificates)

    async def main(server):
        plugin = echo_plugin()
        async with serving(plugin, server.url, transport=transport, **worker_options) as worker:
            gateway = await Requester.connect(server.url, "g", **client_options)
            async with gateway:
                assert await ask_all(gateway) == 500
                await asyncio.to_thread(server.kill)
                await until(lambda: not worker._broker.client.is_connected)
                await asyncio.to_thread(server.start)
                await until(lambda: gateway.client.is_connected)
                assert await ask_all(gateway) == 500
                assert worker._broker.client.stats["reconnects"] == 1
                assert worker._core.in_flight == 0

    with NatsServer(config=config) as server:
        # The port must be the same after the restart.
        server.restart()
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(main(server))


def test_messages_do_take_the_hooked_path_and_not_nats_pys():
    delivered = []

    async def main(server):
        async with (
            serving(echo_plugin(), server.url) as worker,
            await Requester.connect(server.url, "g") as gateway,
        ):
            before = worker._broker.client.stats["in_msgs"]
            assert await ask_all(gateway, 100) == 100
            delivered.append(worker._broker.client.stats["in_msgs"] - before)

    with NatsServer() as server:
        asyncio.run(main(server))
    assert delivered == [0]


def test_a_worker_waits_for_a_broker_that_is_not_there_and_says_so_once(caplog):
    async def main(server):
        async with asyncio.timeout(20):
            async with (
                serving(echo_plugin(), server.url),
                await Requester.connect(server.url, "g") as gateway,
            ):
                assert await ask(gateway, 1)

    async def start_later(server):
        worker = asyncio.create_task(main(server))
        await until(lambda: [r for r in caplog.records if "no broker at" in r.getMessage()])
        await asyncio.sleep(0.5)  # several attempts
        await asyncio.to_thread(server.start)
        await worker

    with NatsServer() as server:
        server.restart()
        server.stop()
        with caplog.at_level(logging.INFO, "nylon.worker"):
            asyncio.run(start_later(server))
    lines = [r.getMessage() for r in caplog.records if r.name == "nylon.worker"]
    assert sum("no broker at" in line for line in lines) == 1
    assert any("connected to the broker after" in line for line in lines)


def test_refused_credentials_end_the_worker_with_a_reason_and_without_the_password():
    async def main(server):
        async with serving(echo_plugin(), server.url, user="nylon", password="wr0ng"):
            pytest.fail("it must not serve")

    guard = 'authorization { user: "nylon", password: "s3cret" }\n'
    with (
        NatsServer(config=guard) as server,
        pytest.raises(WorkerError, match="refuses these credentials") as caught,
    ):
        asyncio.run(main(server))
    assert "wr0ng" not in str(caught.value)


async def asked_again(gateway, subject):
    """What answers on `subject`, once somebody does: right after a reconnect the server may not know of it yet."""
    async with asyncio.timeout(10):
        while True:
            try:
                return (await gateway.client.request(subject, b"", timeout=5)).data
            except nats.errors.NoRespondersError:
                await asyncio.sleep(0.01)


def test_a_worker_announces_itself_at_start_after_a_reconnect_and_when_it_leaves():
    heard = []

    async def main(server):
        gateway = await Requester.connect(server.url, "g")

        async def on_announce(message):
            heard.append(msgpack.unpackb(message.data))

        async with gateway:
            await gateway.client.subscribe("nylon.g.workers", cb=on_announce)
            await gateway.client.flush()
            async with serving(echo_plugin(), server.url, concurrency=7) as worker:
                await until(lambda: len(heard) == 1)
                assert (heard[0]["t"], heard[0]["w"], heard[0]["g"], heard[0]["c"]) == (
                    "info",
                    worker.worker,
                    "g",
                    7,
                )
                assert heard[0]["en"] == [["echo", {"p": 1}], ["pooled", {"p": 1}]]
                await asyncio.to_thread(server.kill)
                await until(lambda: not worker._broker.client.is_connected)
                await asyncio.to_thread(server.start)
                # The requester may be back later than the worker: then it asks, as a gateway does.
                await until(lambda: gateway.client.is_connected and worker._broker.client.is_connected)
                info = json.loads(await asked_again(gateway, "$SRV.INFO.nylon-g"))
                assert (info["id"], info["metadata"]["nylon.worker"]) == (worker.worker, worker.worker)
                assert info["metadata"]["nylon.entry.echo"] == "request_filter"
                assert await ask(gateway, 1)
                stats = json.loads((await gateway.client.request("$SRV.STATS.nylon-g", b"", timeout=5)).data)
                assert stats["endpoints"][0]["num_requests"] == 1
                assert stats["endpoints"][0]["subject"] == "nylon.g.call"
            await until(lambda: heard[-1]["t"] == "leave")
            assert heard[-1]["w"] == worker.worker
            assert (await gateway.call("echo")).outcome == "no responders"

    with NatsServer() as server:
        server.restart()
        asyncio.run(main(server))


def test_a_drain_answers_every_call_that_was_taken():
    plugin = NylonPlugin()

    @plugin.request_filter("slow")
    async def slow(ctx):
        await asyncio.sleep(0.2)
        ctx.next()

    @plugin.request_filter("pooled")
    def pooled(ctx):
        ctx.next()

    async def main(server):
        async with await Requester.connect(server.url, "g") as gateway:
            async with serving(plugin, server.url, concurrency=1000) as worker:
                calls = [asyncio.create_task(gateway.call("slow")) for _ in range(100)]
                calls += [asyncio.create_task(gateway.call("pooled")) for _ in range(100)]
                await until(lambda: worker._core.stats()["calls"] >= 150)
                worker.stop()
                # What was still on its way is either answered or has found nobody: never lost.
                outcomes = [answer.outcome for answer in await asyncio.gather(*calls)]
            assert outcomes.count("next") == worker._core.stats()["calls"] >= 150
            assert set(outcomes) <= {"next", "no responders"}

    with NatsServer() as server:
        asyncio.run(main(server))


def test_a_handler_that_outlives_the_drain_is_given_up_and_answered():
    plugin = NylonPlugin()

    @plugin.request_filter("stuck")
    async def stuck(ctx):
        await asyncio.Event().wait()

    async def main(server):
        async with await Requester.connect(server.url, "g") as gateway:
            async with serving(plugin, server.url, drain_timeout=0.1) as worker:
                call = asyncio.create_task(gateway.call("stuck"))
                await until(lambda: worker._core.in_flight == 1)
            assert (await call).error["k"] == "unavailable"

    with NatsServer() as server:
        asyncio.run(main(server))
