"""What people would write without Nylon: a nats-py callback, a codec, the same handler.

`stock.py URL GROUP CODEC LOOP` with CODEC msgpack or ormsgpack, LOOP uvloop or asyncio. It neither acknowledges nor
bounds its calls, drains nothing and remembers nothing: it is the floor of this way, not an equal of a worker.
"""

import asyncio
import importlib
import signal
import sys

import nats

VALUE = b"0123456789abcdef0123456789abcdef0123456789a"
"""Makes the reply 117 bytes long, as the worker's is."""


def codec(name):
    module = importlib.import_module(name)
    return module.unpackb, module.packb


def make_callback(name):
    decode, encode = codec(name)

    async def serve(message):
        call = decode(message.data)
        headers = dict(call["q"]["h"])
        reply = {"t": "reply", "v": 1, "id": call["id"], "w": "0123456789abcdef", "o": "next"}
        if headers.get("authorization") is None or headers.get("x-request-id") is None:
            reply |= {"o": "end", "op": [[8, 401]]}
        else:
            reply["op"] = [[4, "x-user", VALUE]]
        await message.respond(encode(reply))

    return serve


async def main(url, group, name):
    client = await nats.connect(url)
    await client.subscribe(f"nylon.{group}.call", queue=group, cb=make_callback(name))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await client.close()


if __name__ == "__main__":
    url, group, name, loop = sys.argv[1:]
    factory = importlib.import_module("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(url, group, name))
