"""What the supervisor does with the signals that it gets, and with code that does not work."""

import asyncio
import re
import signal
import time

import msgpack
import pytest
from requester import Requester, call_frame
from supervised import APP, ask, gone

from nylon.embedded import NatsServer
from nylon.slot import FIRST_PAUSE, SOUND_AFTER

BROKEN = "plugin = 1\n\n\ndef broken(:\n"


@pytest.fixture(scope="module")
def broker():
    with NatsServer() as server:
        yield server


def pauses(log):
    """The seconds that the supervisor said it would wait."""
    return [float(seconds) for seconds in re.findall(r"starting it again in ([\d.]+) s", log)]


def test_sigttin_and_sigttou_make_it_one_more_and_one_less(broker, supervised):
    running = supervised(servers=[broker.url], group="sized", workers=1)
    running.until_serving(1)
    [first] = running.workers()
    running.process.send_signal(signal.SIGTTIN)
    running.until_serving(2)
    assert first in running.workers() and len(running.workers()) == 2
    running.process.send_signal(signal.SIGTTOU)
    running.until(lambda: running.workers() == [first])
    running.process.send_signal(signal.SIGTTOU)
    running.until(lambda: "one worker is the least" in running.log)
    assert running.workers() == [first]
    assert ask(broker, "pid", group="sized")[0].outcome == "next"


def test_sigusr1_says_which_processes_there_are(broker, supervised):
    running = supervised(servers=[broker.url], group="told", workers=2)
    running.until_serving(2)
    first = running.workers()[0]
    first.kill()
    running.until_serving(3)
    running.process.send_signal(signal.SIGUSR1)
    running.until(lambda: "2 of 2 workers serve" in running.log)
    running.until(lambda: running.log.count(" serves, ") == 2)
    for worker in running.workers():
        assert f"pid {worker.pid} serves" in running.log
    assert running.log.count("1 restarts") == 1


def test_reload_of_code_that_does_not_load_changes_nothing(broker, supervised, tmp_path):
    running = supervised(servers=[broker.url], group="kept", workers=2)
    running.until_serving(2)
    before = running.workers()
    (tmp_path / "app.py").write_text(BROKEN)
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: "what serves stays (2 workers)" in running.log)
    assert running.workers() == before
    assert (
        f"{tmp_path}/app.py:4:12: SyntaxError: invalid syntax\n    def broken(:\n               ^\n"
        in running.log
    )
    assert running.log.count("SyntaxError") == 1
    assert "Traceback" not in running.log
    assert ask(broker, "pid", group="kept")[0].outcome == "next"
    (tmp_path / "app.py").write_text(APP + "\n# mended\n")
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: "reloaded in" in running.log)
    assert not set(before) & set(running.workers())


def test_worker_that_cannot_come_back_is_tried_less_and_less_often(broker, supervised, tmp_path):
    running = supervised(servers=[broker.url], group="looping", workers=2)
    running.until_serving(2)
    dead, lives = running.workers()
    (tmp_path / "app.py").write_text(BROKEN)
    dead.kill()
    running.until(lambda: len(pauses(running.log)) >= 4)
    waited = pauses(running.log)
    assert waited == sorted(waited) and waited[3] > 4 * waited[0]
    assert running.log.count("exited with code 1") == len(waited) - 1
    assert lives.is_running()
    # A reload cuts the pause short: the new code may be the cure.
    (tmp_path / "app.py").write_text(APP + "\n# mended\n")
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: "reloaded in" in running.log)
    assert len(running.workers()) == 2


def test_workers_that_served_and_are_killed_again_and_again_are_replaced_at_once(broker, supervised):
    running = supervised(servers=[broker.url], group="struck", workers=2)
    running.until_serving(2)
    for count in range(3, 7):
        begun = time.monotonic()
        running.until(lambda begun=begun: time.monotonic() - begun > 1.5 * SOUND_AFTER)
        running.workers()[0].kill()
        running.until_serving(count)
    assert len(pauses(running.log)) == 4
    assert max(pauses(running.log)) < 2 * FIRST_PAUSE


def test_handler_that_kills_its_worker_costs_that_worker_only(broker, supervised):
    running = supervised(servers=[broker.url], group="dying", workers=2)
    running.until_serving(2)

    async def kill_one():
        async with await Requester.connect(broker.url, "dying") as gateway:
            await gateway.send(msgpack.packb(call_frame("dies")))
            await gateway.client.flush()

    asyncio.run(kill_one())
    running.until(lambda: "exited with code 9" in running.log)
    running.until_serving(3)
    assert ask(broker, "pid", group="dying")[0].outcome == "next"


def test_worker_that_is_signalled_twice_drains_all_the_same(broker, supervised):
    """As an init system does that signals the whole group, and the supervisor passes its own on."""
    running = supervised(servers=[broker.url], group="twice", workers=1)
    running.until_serving(1)
    [worker] = running.workers()

    async def signal_while_busy():
        async with await Requester.connect(broker.url, "twice") as gateway:
            call = asyncio.create_task(gateway.call("slow"))
            await asyncio.sleep(0.1)
            worker.send_signal(signal.SIGTERM)
            running.process.send_signal(signal.SIGTERM)
            return (await call).outcome

    assert asyncio.run(signal_while_busy()) == "next"
    assert running.wait() == 0
    assert gone([worker])


def test_limit_of_memory_below_what_the_plugin_needs_is_an_error_at_the_start(broker, supervised):
    running = supervised(servers=[broker.url], group="tight", workers=2, recycling={"max_rss": 5})
    assert running.wait() == 1
    assert re.search(r"max_rss is 5 MB, and the plugin holds \d+ MB once it is loaded", running.log)
    assert "Traceback" not in running.log


def test_reload_while_one_is_under_way_begins_anew(broker, supervised, tmp_path):
    slow = "import time, os\ntime.sleep(0.5 if os.path.exists('slow') else 0)\n"
    running = supervised(slow + APP, servers=[broker.url], group="anew", workers=2)
    running.until_serving(2)
    before = running.workers()
    (tmp_path / "slow").touch()
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: len(running.workers()) == 3)
    (tmp_path / "slow").unlink()
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: "reloaded in" in running.log)
    assert running.log.count("reloaded in") == 1
    assert not set(before) & set(running.workers())
    assert len(running.workers()) == 2


def test_stop_during_a_reload_leaves_no_process(broker, supervised):
    running = supervised(servers=[broker.url], group="stopped", workers=2)
    running.until_serving(2)
    running.process.send_signal(signal.SIGHUP)
    running.until(lambda: len(running.workers()) == 3)
    workers = running.workers()
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert gone(workers)


def test_ready_file_is_there_while_all_workers_serve(broker, supervised, tmp_path):
    ready = tmp_path / "ready"
    ready.touch()  # left by one that was killed
    slow = "import time, os\nwhile os.path.exists('wait'): time.sleep(0.01)\n"
    (tmp_path / "wait").touch()
    running = supervised(slow + APP, servers=[broker.url], group="ready", workers=2, ready_file=str(ready))
    running.until(lambda: not ready.exists())
    (tmp_path / "wait").unlink()
    running.until(ready.exists)
    assert "serving group ready" in running.log
    running.process.send_signal(signal.SIGTERM)
    running.until(lambda: not ready.exists())
    assert running.wait() == 0


def test_ready_file_that_cannot_be_is_an_error(supervised, tmp_path):
    running = supervised(group="ready", workers=1, ready_file=str(tmp_path / "nowhere" / "ready"))
    assert running.wait() == 1
    assert f"there is no directory {tmp_path}/nowhere" in running.log
