# SPDX-License-Identifier: Apache-2.0
"""Clients and plugins through a real daemon, real sockets, real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from daemon_process import DaemonProcess

from qcosd.protocol import MAX_FRAME
from qcosd.sdk import BlockingClient, Client, DaemonAbsent, DaemonSilent, DeadlineExceeded, RequestFailed
from qcosd.sdk.boot import BOOT_VARIABLE


@pytest.fixture(scope="module")
def shared() -> Iterator[DaemonProcess]:
    daemon = DaemonProcess().start()
    yield daemon
    daemon.close()


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    daemon = DaemonProcess().start()
    yield daemon
    daemon.close()


@pytest.fixture
def client(shared: DaemonProcess) -> Iterator[BlockingClient]:
    with BlockingClient(shared.runtime) as client:
        yield client


def greet(client: BlockingClient, name: bytes, **more: Any) -> str:
    return client.submit({"target": "greeted", "seed": 1, **more}, {"greeting": client.put(name)})


def row(client: BlockingClient, name: str) -> dict[str, Any]:
    return next(row for row in client.plugins() if row["name"] == name)


def wait_for_state(client: BlockingClient, name: str, *states: str) -> dict[str, Any]:
    for event in client.events([f"plugin.{name}"], timeout=60.0):
        if event.state["state"] in states:
            return event.state
    raise AssertionError(f"{name} is never {states}")


def wait_for_stage(client: BlockingClient, job: str, stage: str) -> None:
    for event in client.events([f"job.{job}"], timeout=60.0):
        if event.state.get("stage", "").startswith(stage):
            return
    raise AssertionError(f"job {job} never comes to {stage}")


def test_hello_through_the_daemon(client: BlockingClient) -> None:
    states: list[str] = []
    job = greet(client, b"world")
    document = client.wait(job, on_change=lambda state: states.append(state["state"]))
    assert document["state"] == "done", document
    assert client.get(document["artifacts"]["greeted"]) == b"Hello, world!\n"
    assert client.job(job) == client.wait(job) == document
    assert job in [listed["job"] for listed in client.jobs()]
    assert set(states) <= {"queued", "booting", "running", "done"}


def test_bad_input_comes_back_with_its_place(client: BlockingClient) -> None:
    document = client.wait(greet(client, b"a\n\n", source_name="names"))
    assert (document["state"], document["error"]["message"]) == ("failed", "names:2: a name is missing")


def test_big_artifacts(client: BlockingClient) -> None:
    data = os.urandom(3_000_001)
    digest = client.put(data)
    assert client.put(data) == digest
    assert client.get(digest) == data


def test_the_kernel_may_send_more_than_it_takes(client: BlockingClient) -> None:
    options = {"padding": "x" * (MAX_FRAME - 300)}  # both the lease and the document have more around it
    document = client.wait(greet(client, b"world", **options))
    assert document["state"] == "done"
    assert document["options"]["padding"] == options["padding"]


def test_errors_of_the_kernel_are_typed(client: BlockingClient) -> None:
    with pytest.raises(RequestFailed) as caught:
        client.job("nothing")
    assert caught.value.name == "no_such_job"
    with pytest.raises(RequestFailed) as caught:
        client.get("0" * 64)
    assert caught.value.name == "no_such_artifact"
    with pytest.raises(ValueError, match="explode"):
        client.plugin("explode", "hello")
    body, payload = client.request("PLUGIN_LIST")
    assert [each["name"] for each in body["plugins"]] == ["hello", "slow"] and payload == ()


def test_a_wait_ends_at_its_deadline(client: BlockingClient) -> None:
    client.plugin("stop", "hello")
    try:
        job = greet(client, b"later")
        with pytest.raises(DeadlineExceeded):
            client.wait(job, timeout=0.05)
        with pytest.raises(DeadlineExceeded):
            client.wait(job, timeout=0.05, on_change=lambda state: None)
        assert client.cancel(job)["state"] == "cancelled"
    finally:
        client.plugin("start", "hello")
    wait_for_state(client, "hello", "ready")


def test_events_begin_with_the_snapshot_and_go_on(client: BlockingClient) -> None:
    events = client.events(["job.", "plugin.hello"], timeout=60.0)
    first = next(events)
    assert first.snapshot
    job = greet(client, b"events")
    seen = []
    for event in events:
        if event.topic == f"job.{job}":
            seen.append(event)
            if event.state["state"] == "done":
                break
    numbers = [event.seq for event in seen]
    assert numbers == sorted(set(numbers))
    events.close()  # type: ignore[attr-defined]
    assert list(client.events(["job."], timeout=0.0)) == []


def test_a_killed_plugin_is_restarted_and_its_job_finishes(daemon: DaemonProcess) -> None:
    with BlockingClient(daemon.runtime) as client:
        job = client.submit({"target": "worked", "seed": 1}, {"work": client.put(b"")})
        wait_for_stage(client, job, "slow.work: in its first life")
        before = row(client, "slow")
        os.kill(before["pid"], signal.SIGKILL)
        document = client.wait(job, 60.0)
        after = row(client, "slow")
    assert document["state"] == "done", document
    assert document["restarts"] == 1
    assert after["pid"] != before["pid"] and after["incarnation"] > before["incarnation"]


@pytest.mark.parametrize("kind", ["crash", "hang"])
def test_injected_faults_are_carried_out(daemon: DaemonProcess, kind: str) -> None:
    with BlockingClient(daemon.runtime) as client:
        before = wait_for_state(client, "hello", "ready")
        client.fault("hello", kind, 0.2 if kind == "hang" else 0.0)
        document = client.wait(greet(client, b"again"), 60.0)
        assert document["state"] == "done"
        assert (row(client, "hello")["incarnation"] > before["incarnation"]) == (kind == "crash")


def test_a_stopped_plugin_leaves_in_order(daemon: DaemonProcess) -> None:
    with BlockingClient(daemon.runtime) as client:
        wait_for_state(client, "hello", "ready")
        client.plugin("stop", "hello")
        wait_for_state(client, "hello", "down")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}"
    assert re.search(rf"^{stamp} INFO qcosd.sdk: hello/\d+: stopping: ", daemon.log_of("hello"), re.MULTILINE)
    assert "Traceback" not in daemon.log_of("hello")


def test_an_operation_that_does_not_listen_cannot_keep_its_plugin(daemon: DaemonProcess) -> None:
    with BlockingClient(daemon.runtime) as client:
        job = client.submit({"target": "stuck", "seed": 1}, {"work": client.put(b"")})
        wait_for_stage(client, job, "slow.stuck: for ever")
        client.plugin("stop", "slow")
        wait_for_state(client, "slow", "down")
    assert "stopping: " in daemon.log_of("slow")


def test_a_daemon_that_is_restarted_gets_open_requests_again(daemon: DaemonProcess) -> None:
    """A request that was sent to a frozen daemon, which then dies, is answered by the next one."""
    with BlockingClient(daemon.runtime, connect_grace=60.0) as client:
        first = client.boot
        daemon.signal(signal.SIGSTOP)
        restart = threading.Thread(target=lambda: (daemon.kill(), daemon.start()))
        restart.start()
        status = client.status(timeout=60.0)
        restart.join()
        assert status["boot"] == client.boot == first + 1
        assert client.wait(greet(client, b"again"), 60.0)["state"] == "done"


def test_subscribers_fetch_the_snapshot_of_a_new_boot(daemon: DaemonProcess) -> None:
    with BlockingClient(daemon.runtime, connect_grace=60.0) as client:
        boots = []
        for event in client.events(["kernel"], timeout=60.0):
            boots.append((event.state["boot"], event.snapshot))
            if len({boot for boot, _ in boots}) == 2:
                break
            if len(boots) == 1:
                daemon.kill()
                daemon.start()
    assert boots[0][0] + 1 == boots[-1][0] and boots[-1][1]


def test_absent_and_silent(daemon: DaemonProcess) -> None:
    assert daemon.process is not None
    daemon.signal(signal.SIGSTOP)
    with pytest.raises(DaemonSilent) as caught:
        BlockingClient(daemon.runtime, connect_grace=0.3).connect()
    assert (caught.value.pid, caught.value.state) == (daemon.process.pid, "stopped")
    daemon.signal(signal.SIGCONT)
    with BlockingClient(daemon.runtime, connect_grace=0.3) as client:
        client.ping()
        daemon.signal(signal.SIGTERM)
        daemon.process.wait()
        with pytest.raises((DaemonAbsent, DaemonSilent)):
            client.ping()
    with pytest.raises(DaemonAbsent):
        BlockingClient(daemon.runtime).connect()


def test_a_client_goes_on_after_a_silence(daemon: DaemonProcess) -> None:
    with BlockingClient(daemon.runtime, connect_grace=0.3) as client:
        events = client.events(["kernel"])
        next(events)
        daemon.signal(signal.SIGSTOP)
        with pytest.raises(DaemonSilent):
            next(events)
        with pytest.raises(DaemonSilent):
            client.ping()
        daemon.signal(signal.SIGCONT)
        client.connect_grace = 60.0
        client.ping()
        assert next(client.events(["kernel"])).snapshot


def test_the_asynchronous_client_does_many_things_at_once(shared: DaemonProcess) -> None:
    async def one(client: Client, name: bytes) -> bytes:
        job = await client.submit({"target": "greeted", "seed": 1}, {"greeting": await client.put(name)})
        document = await client.wait(job)
        return await client.get(document["artifacts"]["greeted"])

    async def watch(client: Client) -> int:
        done = 0
        async for event in client.events(["job."]):
            done += event.state["state"] == "done"
            if done >= 3:
                return done
        return 0

    async def main() -> list[bytes]:
        async with Client(shared.runtime) as client:
            watching = asyncio.create_task(watch(client))
            names = [b"a", b"b", b"c", os.urandom(10).hex().encode()]
            greetings = await asyncio.gather(*(one(client, name) for name in names))
            assert await watching == 3
            with pytest.raises(RequestFailed, match="job"):
                await client.job("nothing")
            parked = await client.submit({"target": "worked", "seed": 1}, {"work": await client.put(b"")})
            with pytest.raises(DeadlineExceeded):
                await client.wait(parked, timeout=0.05)
            assert (await client.cancel(parked))["state"] == "cancelled"
            await client.ping()
            assert (await client.status())["boot"] == client.boot
            return greetings[:3]

    assert asyncio.run(main()) == [b"Hello, a!\n", b"Hello, b!\n", b"Hello, c!\n"]


def test_the_asynchronous_client_tells_absent_and_silent(daemon: DaemonProcess) -> None:
    async def main() -> None:
        client = Client(daemon.runtime, connect_grace=0.3)
        async with client:
            daemon.signal(signal.SIGSTOP)
            with pytest.raises(DaemonSilent, match="stopped"):
                await client.status()
            daemon.signal(signal.SIGCONT)
            client.connect_grace = 60.0
            await client.status()
            daemon.signal(signal.SIGSTOP)
            client.connect_grace = 0.3
        with pytest.raises(DaemonSilent):
            await client.connect()
        daemon.signal(signal.SIGCONT)
        await client.connect()
        client.close()
        with pytest.raises(DaemonAbsent):
            await Client(daemon.top / "nowhere").connect()

    asyncio.run(main())


def run_hello(environment: dict[str, str], fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qcos_plugins.hello.main"]
    return subprocess.run(command, env=environment, pass_fds=fds, capture_output=True, text=True, timeout=60)


def test_a_plugin_without_a_daemon_says_so_and_exits() -> None:
    environment = {name: value for name, value in os.environ.items() if name != BOOT_VARIABLE}
    alone = run_hello(environment)
    assert (alone.returncode, "started by qcosd" in alone.stderr) == (2, True)
    reading, writing = os.pipe()
    os.close(writing)
    orphan = run_hello({**environment, BOOT_VARIABLE: str(reading)}, (reading,))
    os.close(reading)
    assert (orphan.returncode, "daemon went away" in orphan.stderr) == (2, True)


def test_a_plugin_its_lease_and_a_wait_outlive_the_daemon(daemon: DaemonProcess) -> None:
    with BlockingClient(daemon.runtime, restart_grace=60.0) as client:
        submit = lambda: client.submit({"target": "worked", "seed": 1}, {"work": work}, key="mine")  # noqa: E731
        work = client.put(b"")
        job = submit()
        wait_for_stage(client, job, "slow.work: in its first life")
        before = row(client, "slow")
        with ThreadPoolExecutor(1) as elsewhere, BlockingClient(daemon.runtime, restart_grace=60.0) as other:
            waiting = elsewhere.submit(other.wait, job, 60.0, lambda state: None)
            for _ in range(2):
                daemon.kill()
                daemon.start()
                after = wait_for_state(client, "slow", "ready")
                assert (after["pid"], after["incarnation"]) == (before["pid"], before["incarnation"])
                assert submit() == job
            os.kill(before["pid"], signal.SIGKILL)  # it would wait for ever, see there
            document = waiting.result(60.0)
        assert (document["state"], document["restarts"]) == ("done", 1), document
        assert client.get(document["artifacts"]["worked"]) == b"2"
