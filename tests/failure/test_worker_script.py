"""A worker as a script or inside somebody's program: run, serve, close, signals."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading

import pytest
from requester import Requester, until

from nylon import NatsPlugin, PluginError, WorkerError
from nylon.embedded import NatsServer

SCRIPT = """
import asyncio, logging, sys
from nylon import NatsPlugin

logging.basicConfig(level="INFO", format="%(message)s")
with NatsPlugin(sys.argv[1], "script", drain_timeout=60) as plugin:

    @plugin.initialize
    async def begin(config):
        print("loop", type(asyncio.get_running_loop()).__module__, flush=True)

    @plugin.shutdown
    def end():
        print("shutdown", flush=True)

    @plugin.request_filter("hello")
    async def hello(ctx):
        ctx.next()

    @plugin.request_filter("hang")
    async def hang(ctx):
        await asyncio.sleep(60)

    plugin.run()
print("returned", flush=True)
"""


@pytest.fixture(scope="module")
def broker():
    with NatsServer() as server:
        yield server


@pytest.fixture
def script(broker):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, broker.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def until_line(stream, text):
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"no line with {text!r}")


def ask(broker, entry, group="script"):
    async def main():
        async with await Requester.connect(broker.url, group) as gateway:
            return (await gateway.call(entry)).outcome

    return asyncio.run(main())


def test_a_script_serves_until_a_signal_then_shuts_its_plugin_down_and_goes_on(broker, script):
    banner = until_line(script.stderr, "serving group script")
    assert "hello: request_filter" in banner
    assert broker.url in banner
    assert ask(broker, "hello") == "next"
    script.send_signal(signal.SIGINT)
    out, log = script.communicate(timeout=20)
    assert script.returncode == 0, log
    assert out.split() == ["loop", "uvloop", "shutdown", "returned"]
    assert "draining" in log


def test_a_second_signal_stops_a_script_at_once(broker, script):
    until_line(script.stderr, "serving group script")

    async def hang():
        async with await Requester.connect(broker.url, "script") as gateway:
            task = asyncio.create_task(gateway.call("hang", patience=30))
            await asyncio.sleep(0)
            while (await gateway.call("hello")).before != ["ack"]:
                pass
            script.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until_line, script.stderr, "draining")
            script.send_signal(signal.SIGTERM)
            task.cancel()

    asyncio.run(hang())
    assert script.wait(20) == -signal.SIGTERM


def test_a_plugin_is_served_in_a_running_loop_and_closed_from_another_thread(broker):
    plugin = NatsPlugin(broker.url, "library")

    @plugin.request_filter("hello")
    def hello(ctx):
        ctx.next()

    async def main():
        task = asyncio.create_task(plugin.serve())
        async with await Requester.connect(broker.url, "library") as gateway:
            await gateway.until_served("hello")
            before = threading.active_count()
            await asyncio.to_thread(plugin.close)
            # close() has waited for the end, so nothing is left but the task's own return.
            await asyncio.wait_for(task, 5)
            assert (await gateway.call("hello")).outcome == "no responders"
            assert threading.active_count() < before
        plugin.close()

    asyncio.run(main())


def test_a_plugin_can_be_served_again_after_it_was_closed(broker):
    plugin = NatsPlugin(broker.url, "again")
    plugin.request_filter("hello")(lambda ctx: ctx.next())

    async def once():
        task = asyncio.create_task(plugin.serve())
        async with await Requester.connect(broker.url, "again") as gateway:
            await gateway.until_served("hello")
        plugin.close()
        await asyncio.wait_for(task, 10)

    for _ in range(3):
        asyncio.run(once())


def test_a_cancelled_serve_leaves_nothing_behind(broker):
    plugin = NatsPlugin(broker.url, "cancelled")
    plugin.request_filter("hello")(lambda ctx: ctx.next())

    async def main():
        task = asyncio.create_task(plugin.serve())
        async with await Requester.connect(broker.url, "cancelled") as gateway:
            await gateway.until_served("hello")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(10):
                gone = False
                while not gone:  # the broker notices the end of a connection in its own time
                    with contextlib.suppress(TimeoutError):
                        gone = (await gateway.call("hello", patience=0.5)).outcome == "no responders"
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    threads = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == threads


def test_a_connection_that_the_broker_ends_for_good_ends_serve_with_its_reason():
    # nats-py does not reconnect after an error such as this one, sent here by a broker of our own making.
    async def broker(reader, writer):
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1000,"headers":true}\r\n')
        while line := await reader.readline():
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
            elif line.startswith(b"SUB nylon.g.call"):
                await asyncio.sleep(0.05)
                writer.write(b"-ERR 'Maximum Connections Exceeded'\r\n")
        writer.close()

    async def main():
        server = await asyncio.start_server(broker, "127.0.0.1", 0)
        async with server, asyncio.timeout(20):
            port = server.sockets[0].getsockname()[1]
            plugin = NatsPlugin(f"nats://127.0.0.1:{port}", "g")
            plugin.request_filter("hello")(lambda ctx: ctx.next())
            await plugin.serve()

    with pytest.raises(WorkerError, match="maximum connections exceeded"):
        asyncio.run(main())


def test_a_plugin_whose_initialize_raises_does_not_serve(broker):
    plugin = NatsPlugin(broker.url, "broken")
    plugin.request_filter("hello")(lambda ctx: ctx.next())

    @plugin.initialize
    def begin(config):
        raise RuntimeError("no database")

    with pytest.raises(PluginError, match=r"test_worker_script\.py:\d+.*no database"):
        asyncio.run(plugin.serve())
