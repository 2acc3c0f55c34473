"""What the worker's byte path must leave to nats-py, and what nats-py must do with it: the server's own messages, its
limits and its patience, in the middle of calls.
"""

import asyncio
import os
import signal

from requester import Requester, serving, until
from stalling import stalling

from nylon import NylonPlugin
from nylon.embedded import NatsServer
from nylon.transport import BoundedTransport, HookedTransport


def sized_plugin():
    plugin = NylonPlugin()

    @plugin.request_filter("sized")
    async def sized(ctx):
        ctx.response.body_raw(b"x" * int(ctx.request.query))
        ctx.end()

    return plugin


async def ask(gateway, size=1, patience=10.0):
    """The answer of the handler, once somebody answers."""
    async with asyncio.timeout(patience):
        while True:
            answer = await gateway.call(
                "sized", q={"m": "GET", "p": "/", "q": str(size), "h": []}, patience=30
            )
            if answer.outcome != "no responders":
                return answer
            await asyncio.sleep(0.01)


def test_a_transport_is_true_before_it_is_connected_or_nats_py_would_replace_it():
    assert HookedTransport(lambda transport, inner: inner)
    assert BoundedTransport()


def test_the_servers_pings_are_answered_while_calls_come_and_while_none_do(transport):
    async def main(server):
        async with (
            serving(sized_plugin(), server.url, transport=transport) as worker,
            await Requester.connect(server.url, "g") as gateway,
        ):
            stats = worker._broker.client.stats
            calls = 0
            end = asyncio.get_running_loop().time() + 1.5
            while asyncio.get_running_loop().time() < end:
                assert (await ask(gateway)).outcome == "end"
                calls += 1
            await asyncio.sleep(1.5)
            assert (await ask(gateway)).outcome == "end"
            assert calls > 100
            assert stats["reconnects"] == 0

    # A client that leaves one unanswered is cut off.
    with NatsServer(config='ping_interval: "300ms"\nping_max: 1\n') as server:
        asyncio.run(main(server))


def test_a_smaller_max_payload_after_a_restart_counts_for_what_is_sent_then(transport):
    async def main(server):
        async with (
            serving(sized_plugin(), server.url, transport=transport) as worker,
            await Requester.connect(server.url, "g") as gateway,
        ):
            answer = await ask(gateway, 20_000)
            assert answer.outcome == "end"
            await asyncio.to_thread(server.kill)
            await until(lambda: not worker._broker.client.is_connected)
            server._config = "max_payload: 10000\n"
            await asyncio.to_thread(server.start)
            await until(lambda: gateway.client.is_connected and worker._broker.client.is_connected)
            assert (await ask(gateway, 1)).outcome == "end"
            before = worker._broker.client.stats["reconnects"]
            # The old reply does not go through any more: better an honest answer than none.
            assert (await gateway.probe(worker.worker, answer.frame["id"]))["t"] == "unknown"
            assert (await ask(gateway, 1)).outcome == "end"
            # A server cuts off whoever sends more than it takes.
            assert worker._broker.client.stats["reconnects"] == before

    with NatsServer(config="max_payload: 100000\n") as server:
        server.restart()
        asyncio.run(main(server))


def test_a_server_that_announces_its_end_is_used_to_the_last_and_found_again(transport):
    async def main(server):
        async with (
            serving(sized_plugin(), server.url, transport=transport) as worker,
            await Requester.connect(server.url, "g") as gateway,
        ):
            told = asyncio.Event()

            async def on_lame_duck():
                told.set()

            worker._broker.client._lame_duck_mode_cb = on_lame_duck
            calls = [asyncio.create_task(ask(gateway)) for _ in range(50)]
            os.kill(server.pid, signal.SIGUSR2)
            await asyncio.wait_for(told.wait(), 10)
            calls += [asyncio.create_task(ask(gateway)) for _ in range(50)]
            assert [answer.outcome for answer in await asyncio.gather(*calls)] == ["end"] * 100
            assert worker._broker.client.is_connected
            await asyncio.to_thread(server.kill)
            await until(lambda: not worker._broker.client.is_connected)
            await asyncio.to_thread(server.start)
            await until(lambda: gateway.client.is_connected and worker._broker.client.is_connected)
            assert (await ask(gateway)).outcome == "end"

    with NatsServer(config='lame_duck_duration: "30s"\nlame_duck_grace_period: "20s"\n') as server:
        server.restart()
        asyncio.run(main(server))


def test_a_worker_that_the_server_gave_up_as_too_slow_comes_back_and_answers(tmp_path, transport):
    async def main(server):
        async with stalling(server, tmp_path, "slow", transport) as (gateway, worker):
            worker.process.signal(signal.SIGSTOP)
            junk = os.urandom(60_000)
            async with asyncio.timeout(30):
                # More than the sockets and the server hold for it.
                while "Slow Consumer Detected" not in server.log:
                    for _ in range(20):
                        await gateway.client.publish(gateway.subject(), junk)
                    await gateway.client.flush()
            worker.process.signal(signal.SIGCONT)
            await until(lambda: "the broker is back" in worker.process.log, patience=30)
            await gateway.until_served("step")
            async with asyncio.timeout(20):
                while (await gateway.call("step")).outcome != "next":
                    pass

    with NatsServer(config='write_deadline: "300ms"\nmax_pending: 2000000\n') as server:
        server.restart()
        asyncio.run(main(server))
