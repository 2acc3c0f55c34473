"""Gateways that misbehave, in great numbers: each message is answered or counted, what they cost is bounded, and others
are served in between.
"""

import asyncio
import os

import msgpack
import pytest
from requester import Requester, call_frame, serving, until

from nylon import NylonPlugin

FLOOD = 500


def bad_messages(worker):
    """What each round sends: to whom, what, and whether it is answered."""
    return [
        (None, os.urandom(40), True),
        (worker, os.urandom(40), True),
        (None, msgpack.packb({"t": "call", "v": 1, "id": os.urandom(16)}), True),
        (worker, msgpack.packb({"t": "probe", "v": 1, "id": os.urandom(16)}), True),
        (worker, msgpack.packb({"t": "probe", "v": 1}), True),
        (worker, msgpack.packb({"t": "grant", "v": 1, "id": os.urandom(16), "ok": True}), False),
        (
            worker,
            msgpack.packb({"t": "body", "v": 1, "id": os.urandom(16), "ms": 1, "d": b"nobody's"}),
            False,
        ),
        (worker, msgpack.packb({"t": "close", "v": 1, "s": os.urandom(16)}), False),
        (worker, msgpack.packb({"t": "ack", "v": 1, "id": os.urandom(16), "w": "somebody"}), True),
        (worker, msgpack.packb({"t": "later", "v": 9, "id": os.urandom(16)}), True),
        (None, msgpack.packb(call_frame("step", e="x" * 200)), True),
        (None, msgpack.packb(call_frame("step", cl=True)), True),
        (None, msgpack.packb(call_frame("declared", qb=1 << 62)), True),
    ]


@pytest.mark.parametrize("transport", ["hooked", "plain"])
def test_a_flood_of_nonsense_is_answered_counted_and_forgotten(broker, transport):
    plugin = NylonPlugin()
    ran = []

    @plugin.request_filter("step")
    async def step(ctx):
        ran.append(ctx.request.path)
        ctx.next()

    @plugin.request_filter("declared", body=True)
    async def declared(ctx):
        ran.append("declared")
        ctx.next()

    async def main():
        async with (
            serving(
                plugin, broker.url, transport=transport, concurrency=FLOOD // 4, drain_timeout=0
            ) as worker,
            await Requester.connect(broker.url, "g") as bad,
            await Requester.connect(broker.url, "g") as good,
        ):
            bad.grant = lambda _claim: None
            queues = []
            for number in range(FLOOD):
                for target, payload, is_answered in bad_messages(worker.worker):
                    queue, _token = await bad.send(payload, target)
                    # By a sign or a reply: a claim goes another way.
                    if is_answered:
                        queues.append(queue)
                if number % 100 == 0:
                    await bad.client.flush()
                    assert (await good.call("step", patience=20)).outcome in ("next", "busy")
            for queue in queues:
                await asyncio.wait_for(queue.get(), 20)

            stats = worker._core.stats()
            assert stats["malformed"] >= 6 * FLOOD
            assert stats["busy"] > 0
            assert stats["dropped"] == 0
            assert stats["in_flight"] <= FLOOD // 4
            assert worker._broker.client.stats["reconnects"] == 0
            # Claims are given up soon; what waits for a body has the client's time.
            await until(lambda: worker._core.stats()["denied"] == worker._core.stats()["claims"])
            assert "declared" not in ran
            worker._core.give_up()
            assert worker._core.in_flight == 0
            assert (await good.call("step")).outcome == "next"
            assert set(ran) == {"/hello"}

    asyncio.run(main())
