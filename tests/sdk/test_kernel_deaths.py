# SPDX-License-Identifier: Apache-2.0
"""Clients and plugins while kernels come and go, over real sockets: nobody notices, nothing acts twice, nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kernel_lives import PATIENCE, KernelLives, Life, Reply

from qcosd.protocol import Message, Type, error_table
from qcosd.sdk import BlockingClient, Client, DaemonAbsent, DaemonSilent, calls
from qcosd.sdk.lone_bus import LoneBus
from qcosd.sdk.plugin_session import EXIT_BUS_SILENT

PLUGIN = """
from qcosd.sdk import Plugin

plugin = Plugin(bus_grace={grace})

@plugin.operation("patient", "wait")
def wait(lease):
    lease.input("greeting")

@plugin.closing
def closing():
    print("safe", flush=True)

plugin.main()
"""

LEASE = {"lease": 4, "epoch": 2, "job": "1", "service": "patient", "op": "wait", "batch": None, "options": {},
         "shots": 1, "seed": 1, "inputs": {}, "stream": None, "budget": 9.0}  # fmt: skip
DONE = {"job": "1", "state": "done"}
DEATHS = 10


@pytest.fixture
def lives() -> Iterator[KernelLives]:
    with KernelLives() as lives:
        yield lives


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def silent(life: Life, message: Message) -> Reply:
    return None


def helpful(life: Life, message: Message) -> Reply:
    match message.type:
        case Type.JOB_WAIT:
            return Type.JOB_DOCUMENT, {"document": DONE}
        case Type.JOB_SUBMIT:
            return Type.JOB_ACCEPTED, {"job": "1"}
        case Type.BLOB_PUT | Type.BLOB_CHUNK:
            end = message.body.get("offset", 0) + len(message.payload[0])
            return Type.BLOB_MORE, {"ticket": life.boot, "offset": end}
    return Type.ACK, {}


def wait(lives: KernelLives, watch: bool, grace: float = PATIENCE) -> dict[str, Any]:
    with BlockingClient(lives.runtime, restart_grace=grace) as client:
        return client.wait("1", on_change=(lambda state: None) if watch else None)


@pytest.mark.parametrize("watch", [False, True])
def test_a_wait_outlives_its_kernel(lives: KernelLives, elsewhere: ThreadPoolExecutor, watch: bool) -> None:
    lives.rise(silent)
    waiting = elsewhere.submit(wait, lives, watch)
    asked = lives.next_heard(Type.JOB_WAIT)
    for _ in range(2):
        lives.die()
        lives.rise(silent)
        again = lives.next_heard(Type.JOB_WAIT)
        assert (again.id, again.body) == (asked.id, asked.body) and again.boot > asked.boot
    lives.die()
    lives.rise(helpful)
    assert waiting.result(PATIENCE) == DONE


def test_a_wait_outlives_a_kernel_that_is_stopped_in_order(lives: KernelLives, elsewhere: ThreadPoolExecutor) -> None:
    lives.rise(lambda life, message: (Type.ERROR, {"error": error_table("shutting_down")}))
    waiting = elsewhere.submit(wait, lives, False)
    lives.next_heard(Type.JOB_WAIT)
    lives.die()
    lives.rise(helpful)
    assert waiting.result(PATIENCE) == DONE


def test_a_kernel_that_is_gone_for_good_ends_the_wait(lives: KernelLives, elsewhere: ThreadPoolExecutor) -> None:
    lives.rise(silent)
    waiting = elsewhere.submit(wait, lives, False, 0.3)
    lives.next_heard(Type.JOB_WAIT)
    lives.die()
    with pytest.raises(DaemonSilent) as caught:
        waiting.result(PATIENCE)
    assert (caught.value.pid, caught.value.state) == (os.getpid(), "not running, its socket was left behind")
    (lives.runtime / "clients.sock").unlink()
    with pytest.raises(DaemonAbsent):
        wait(lives, False)


def test_no_directory_and_no_lock_do_not_end_a_wait_either(lives: KernelLives, elsewhere: ThreadPoolExecutor) -> None:
    lives.rise(silent)
    with BlockingClient(lives.runtime, restart_grace=0.3) as client:
        waiting = elsewhere.submit(client.wait, "1")
        lives.next_heard(Type.JOB_WAIT)
        lives.die()
        for name in ("clients.sock", "events.sock"):
            (lives.runtime / name).unlink()
        with pytest.raises(DaemonSilent, match=f"pid {os.getpid()}, not running"):
            waiting.result(PATIENCE)


def test_a_submission_that_was_not_answered_keeps_its_key(lives: KernelLives, elsewhere: ThreadPoolExecutor) -> None:
    lives.rise(lambda life, message: Type.SHUTDOWN)

    def submit(key: str | None) -> str:
        with BlockingClient(lives.runtime, restart_grace=PATIENCE) as client:
            return client.submit({}, {}, key)

    for key in (None, "mine"):
        submitting: Future[str] = elsewhere.submit(submit, key)
        first = lives.next_heard(Type.JOB_SUBMIT)
        lives.await_death()
        lives.rise(helpful)
        again = lives.next_heard(Type.JOB_SUBMIT)
        assert submitting.result(PATIENCE) == "1"
        assert first.key == again.key != "" and (key is None or first.key == key)
        lives.die()
        lives.rise(lambda life, message: Type.SHUTDOWN)


def test_no_number_of_deaths_fails_a_transfer(lives: KernelLives, elsewhere: ThreadPoolExecutor) -> None:
    """Each kernel takes the first chunk and dies over the second one."""
    data = os.urandom(3500)

    def put() -> str:
        with BlockingClient(lives.runtime, restart_grace=PATIENCE) as client:
            return client.put(data)

    def mortal(life: Life, message: Message) -> Reply:
        return Type.SHUTDOWN if message.type is Type.BLOB_CHUNK else helpful(life, message)

    def last(life: Life, message: Message) -> Reply:
        end = message.body.get("offset", 0) + len(message.payload[0])
        if end == len(data):
            return Type.BLOB_STORED, {"sha": "0" * 64, "size": end}
        assert message.type is Type.BLOB_PUT or message.body["ticket"] == life.boot
        return helpful(life, message)

    lives.rise(mortal)
    putting = elsewhere.submit(put)
    for _ in range(DEATHS):
        lives.next_heard(Type.BLOB_CHUNK)
        lives.await_death()
        lives.rise(mortal)
    lives.await_death()
    lives.rise(last)
    assert len(putting.result(PATIENCE)) == 64


def test_a_transfer_that_one_kernel_keeps_forgetting_fails() -> None:
    limits = lambda: calls.Limits(chunk=10)  # noqa: E731
    talk = calls.put(bytes(25), limits, None)
    lost = calls.RequestFailed(9, "no_reply", "forgotten")
    request = next(talk)
    for _ in range(calls.TRANSFER_ATTEMPTS - 1):
        talk.send([Message(Type.BLOB_MORE, {"ticket": 1, "offset": 10}, boot=3)])
        assert talk.throw(lost) == request
    talk.send([Message(Type.BLOB_MORE, {"ticket": 1, "offset": 10}, boot=3)])
    with pytest.raises(calls.RequestFailed):
        talk.throw(lost)


def test_the_asynchronous_client_outlives_its_kernel_too(lives: KernelLives) -> None:
    async def main() -> None:
        lives.rise(silent)
        async with Client(lives.runtime, restart_grace=PATIENCE) as client:
            boots = []
            async for event in client.events(["kernel"]):
                boots.append(event.state["boot"])
                if len(boots) == 3:
                    break
                lives.die()
                lives.rise(silent)
            assert boots == [1, 2, 3]
            waiting = asyncio.create_task(client.wait("1"))
            await asyncio.to_thread(lives.next_heard, Type.JOB_WAIT)
            lives.die()
            lives.rise(helpful)
            assert await waiting == DONE
            client.restart_grace = 0.3
            lives.die()
            with pytest.raises(DaemonSilent):
                await client.wait("1")

    asyncio.run(main())


def test_qcosctl_wait_does_not_notice(lives: KernelLives) -> None:
    lives.rise(silent)
    command = [
        sys.executable,
        "-m",
        "qcosd.ctl.main",
        "job",
        "wait",
        "1",
        "--json",
        "--runtime-dir",
        str(lives.runtime),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lives.next_heard(Type.JOB_WAIT)
        lives.die()
        lives.rise(lambda life, message: (Type.JOB_DOCUMENT, {"document": {"job": "1", "state": "cancelled"}}))
        said, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, json.loads(said)["state"]) == (1, "cancelled"), complaints


def test_every_request_with_an_effect_has_a_key() -> None:
    talks = [calls.submit({}, {}, None, None), calls.cancel("1", None, None), calls.fault("x", "crash", 0.0, None, None),
             calls.drain(True, None, None), calls.shutdown(None, None),
             *(calls.plugin(action, "x", None, None) for action in calls.PLUGIN_ACTIONS)]  # fmt: skip
    keys = [next(talk)[0].key for talk in talks]
    assert len(set(keys)) == len(talks) and all(keys)
    (generic,) = next(calls.ask(calls.Request(Type.DRAIN, {"on": True})))
    assert generic.key
    (query,) = next(calls.ask(calls.Request(Type.STATUS)))
    assert query.key is None


def plugin_on(place: Path, grace: float, *wrapper: str) -> LoneBus:
    (place / "main.py").write_text(PLUGIN.replace("{grace}", str(grace)))
    return LoneBus("patient", [*wrapper, sys.executable, str(place / "main.py")])


def greeted(bus: LoneBus) -> Message:
    hello = bus.expect("HELLO", lambda message: message.type is Type.HELLO, PATIENCE)
    bus.welcome(hello)
    barrier = (Type.PONG, bus.ping())
    bus.expect("PONG", lambda message: (message.type, message.id) == barrier, PATIENCE)
    return hello


def test_a_plugin_greets_every_kernel_once_and_before_it_says_anything_else(tmp_path: Path) -> None:
    with plugin_on(tmp_path, PATIENCE) as bus:
        bus.start()
        assert greeted(bus).body["boot"] == 0
        for boot in range(2, 2 + DEATHS):
            bus.die()
            bus.rise()
            first = len(bus.heard)
            assert greeted(bus).body["boot"] == boot - 1
            assert bus.heard[first].type is Type.HELLO
        assert Counter(message.type for message in bus.heard)[Type.HELLO] == 1 + DEATHS


def test_a_plugin_whose_kernel_does_not_come_back_makes_itself_safe(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with plugin_on(tmp_path, 0.3) as bus:
        bus.start()
        greeted(bus)
        bus.die()
        assert bus.process is not None
        assert bus.process.wait(PATIENCE) == EXIT_BUS_SILENT
    assert capfd.readouterr().out == "safe\n"


def test_a_plugin_that_hears_nothing_says_so_when_it_leaves(tmp_path: Path) -> None:
    with plugin_on(tmp_path, 0.3) as bus:
        bus.start()
        greeted(bus)
        assert bus.process is not None
        assert bus.process.wait(PATIENCE) == EXIT_BUS_SILENT  # nobody reads what it says, nor answers
        bye = bus.expect("GOODBYE", lambda message: message.type is Type.GOODBYE, PATIENCE)
        assert bye.body["status"] == EXIT_BUS_SILENT


def test_a_kernel_that_dies_while_nothing_of_the_plugin_can_run_is_followed_by_one_hello(tmp_path: Path) -> None:
    """The result is ready at the moment at which the plugin could notice: it goes to the next kernel, after HELLO."""
    holds = 'import ctypes\n    lease.progress(0.5, "holds")\n    ctypes.PyDLL(None).usleep(600_000)  # with the GIL'
    with plugin_on(tmp_path, PATIENCE) as bus:
        (tmp_path / "main.py").write_text((tmp_path / "main.py").read_text().replace('lease.input("greeting")', holds))
        bus.start()
        greeted(bus)
        bus.say(Type.LEASE, LEASE)
        bus.expect("PROGRESS", lambda message: message.type is Type.PROGRESS, PATIENCE)
        bus.die()
        bus.rise()
        first = len(bus.heard)
        hello = greeted(bus)
        if not (done := [message for message in bus.heard[first:] if message.type is Type.DONE]):
            done = [bus.expect("DONE", lambda message: message.type is Type.DONE, PATIENCE)]
        assert hello.body["leases"][0].items() >= {"lease": 4, "epoch": 2}.items() and done[-1].boot == bus.boot
        assert [message.type for message in bus.heard[first:]].count(Type.HELLO) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_plugin_whose_log_is_full_works_and_makes_itself_safe(tmp_path: Path) -> None:
    with plugin_on(tmp_path, 1.0, "sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh") as bus:
        text = (tmp_path / "main.py").read_text()
        text = text.replace('lease.input("greeting")', 'print("at work")').replace('print("safe", flush=True)', 'open("SAFE", "w").close()')  # fmt: skip
        (tmp_path / "main.py").write_text(text.replace("SAFE", str(tmp_path / "safe")))
        bus.start()
        greeted(bus)
        bus.say(Type.LEASE, LEASE)
        end = bus.expect("DONE or FAILED", lambda message: message.type in (Type.DONE, Type.FAILED), PATIENCE)
        assert end.type is Type.DONE, end.body
        bus.die()
        assert bus.process is not None
        assert bus.process.wait(PATIENCE) == EXIT_BUS_SILENT
    assert (tmp_path / "safe").exists()
