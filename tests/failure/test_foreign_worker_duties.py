"""What the protocol's page asks of every worker when something goes wrong, held by workers that are not Python's own:
the one written from the page alone, and the Go SDK's.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import msgpack
import pytest
from requester import Requester, call_frame, until
from support import golang
from support.processes import TESTS, Process

HERE = Path(__file__).parent
PROGRAMS = {
    "python": lambda: [sys.executable, HERE / "foreign_recording.py"],
    "go": lambda: [golang.go_program(golang.ENTRIES, "./recording")],
}


@pytest.fixture(params=PROGRAMS)
def program(request):
    """The command of a worker."""
    return PROGRAMS[request.param]()


@contextlib.asynccontextmanager
async def foreign(program, broker, folder, group):
    """The worker, a gateway, and what it has begun."""
    log = folder / "began"
    log.touch()
    command = [*program, broker.url, group, log]
    with Process(command, cwd=HERE, environment={"PYTHONPATH": str(TESTS)}) as process:
        assert "serving" in await asyncio.to_thread(process.read_line)
        async with await Requester.connect(broker.url, group) as gateway:
            yield gateway, process, log
            log.with_suffix(".open").touch()
            process.signal(signal.SIGCONT)
            await asyncio.to_thread(process.stop)


def numbered(entry, number, **change):
    frame = call_frame(entry, **change)
    frame["q"] = {"m": "GET", "p": f"/{number}", "h": []}
    return frame


def test_it_answers_probes_and_copies_and_runs_nothing_twice(program, broker, tmp_path):
    async def main():
        async with foreign(program, broker, tmp_path, "foreign-repeats") as (gateway, _, log):
            frame = numbered("held", 1)
            call = asyncio.create_task(gateway.raw(msgpack.packb(frame)))
            await until(lambda: log.read_text())
            worker = (await gateway.call("step")).worker
            assert (await gateway.probe(worker, frame["id"]))["t"] == "ack"
            copy, _ = await gateway.send(msgpack.packb({**frame, "a": 2}), worker)
            assert (await asyncio.wait_for(copy.get(), 5))["t"] == "ack"
            log.with_suffix(".open").touch()
            reply = (await call).frame
            assert await gateway.probe(worker, frame["id"]) == reply
            assert (await gateway.raw(msgpack.packb({**frame, "a": 3}), worker)).frame == reply
            assert (await gateway.probe(worker, bytes(16)))["t"] == "unknown"
            assert log.read_text().splitlines() == ["/1 1", "/hello 1"]

    asyncio.run(main())


def test_it_answers_what_it_cannot_read(program, broker, tmp_path):
    async def main():
        async with foreign(program, broker, tmp_path, "foreign-garbage") as (gateway, _, _log):
            worker = (await gateway.call("step")).worker
            for garbage in (b"", b"garbage", msgpack.packb([1]), msgpack.packb({"t": "nothing", "v": 1})):
                for target in (None, worker):
                    assert (await gateway.raw(garbage, target)).error["k"] == "protocol"
            assert (await gateway.call("step")).outcome == "next"

    asyncio.run(main())


@pytest.mark.parametrize("granted", [True, False])
def test_it_claims_what_it_must_and_what_waited_while_it_was_stopped(program, broker, tmp_path, granted):
    async def main():
        async with foreign(program, broker, tmp_path, f"foreign-{granted}") as (gateway, process, log):
            worker = (await gateway.call("step")).worker
            gateway.grant = lambda _claim: granted
            frames = [numbered("step", 0, cl=True)]
            answers = [(await gateway.send(msgpack.packb(frames[0])))[0]]
            await until(lambda: len(gateway.claims) == 1)

            process.signal(signal.SIGSTOP)
            frames += [numbered("step", number) for number in range(1, 20)]
            answers += [(await gateway.send(msgpack.packb(frame), worker))[0] for frame in frames[1:]]
            await gateway.client.flush()
            await asyncio.sleep(0.6)
            process.signal(signal.SIGCONT)
            await until(
                lambda: {claim["id"] for claim in gateway.claims} == {frame["id"] for frame in frames}
            )
            if granted:
                for queue in answers:
                    while (await asyncio.wait_for(queue.get(), 5))["t"] != "reply":
                        pass
                ran = {f"/{number} 1" for number in range(20)}
                assert sorted(log.read_text().splitlines()) == sorted(["/hello 1", *ran])
            else:
                for frame in frames:
                    assert (await gateway.probe(worker, frame["id"]))["t"] == "unknown"
                assert log.read_text().splitlines() == ["/hello 1"]

    asyncio.run(main())
