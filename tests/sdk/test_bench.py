# SPDX-License-Identifier: Apache-2.0
"""The real kernel and real sessions on the bench: how operations run, fail, end early and come back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from qcosd.core.manifest import Manifest, Operation, Restart
from qcosd.protocol import CHUNK
from qcosd.sdk import (
    Interrupt,
    Lease,
    Plugin,
    Refused,
    RequestFailed,
    Result,
    Revoked,
    StreamReader,
    StreamWriter,
    calls,
)
from qcosd.sdk.testing import Bench, make_lease, stream_pair

COPY = Operation("copy", "copy", ("original",), ("copied",))


def manifest(*operations: Operation, name: str = "copier", **more: Any) -> Manifest:
    return Manifest(name, "1", ("unused",), operations=operations or (COPY,), **more)


def copier(function: Any) -> Plugin:
    plugin = Plugin()
    plugin.operation("copy", "copy")(function)
    return plugin


def bench_of(function: Any, **more: Any) -> Bench:
    return Bench((copier(function), manifest(**more)))


def error_of(function: Any) -> dict[str, Any]:
    with bench_of(function) as bench:
        document = bench.run({"original": b"x"}, target="copied").document
    assert document["state"] == "failed"
    error: dict[str, Any] = document["error"]
    return error


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 20 * CHUNK + 7])
def test_artifacts_of_every_size_go_through(size: int) -> None:
    data = (b"0123456789abcdefghijklmnopqrstuvwxyz" * (size // 36 + 1))[:size]
    with bench_of(lambda lease: lease.result({"copied": lease.input("original") + b"!"})) as bench:
        outcome = bench.run({"original": data}, target="copied")
        assert outcome.outputs["copied"] == data + b"!"
        digest = outcome.document["artifacts"]["copied"]
        assert bench.call(calls.get(digest, lambda: bench._session.limits, None)) == data + b"!"


def test_the_lease_says_what_is_to_be_done() -> None:
    seen: list[Lease] = []

    def copy(lease: Lease) -> Result:
        seen.append(lease)
        lease.progress(0.5, "half")
        with pytest.raises(LookupError, match="no input 'other'"):
            lease.input("other")
        with pytest.raises(LookupError, match="no stream"):
            _ = lease.stream
        return lease.result({"copied": lease.input("original")}, facts={"size": 1})

    with bench_of(copy) as bench:
        document = bench.run({"original": b"x"}, target="copied", seed=7, shots=11, name="x").document
        assert "copy.copy: half" in [state.get("stage") for topic, state in bench.published if topic == "job.1"]
    assert document["facts"] == {"copy.copy": {"size": 1}}
    (lease,) = seen
    assert (lease.service, lease.op, lease.job, lease.batch, lease.shots) == ("copy", "copy", "1", None, 11)
    assert lease.options["name"] == "x" and not lease.cancelled.is_set()


def test_a_coroutine_is_an_operation_too() -> None:
    async def copy(lease: Lease) -> Result:
        return lease.result({"copied": lease.input("original")})

    with bench_of(copy) as bench:
        assert bench.run({"original": b"x"}, target="copied").outputs["copied"] == b"x"


def test_a_refusal_fails_the_job_with_its_words() -> None:
    def copy(lease: Lease) -> Result:
        raise Refused("bad_input", "x.qasm:3: no", {"line": 3})

    error = error_of(copy)
    assert (error["name"], error["message"], error["details"]) == ("bad_input", "x.qasm:3: no", {"line": 3})


def test_an_interrupt_carries_the_counter_offer() -> None:
    def copy(lease: Lease) -> Result:
        raise Interrupt("does_not_fit", "too big", {"distance": 5})

    error = error_of(copy)
    assert (error["name"], error["details"]) == ("does_not_fit", {"distance": 5})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda lease: 1 // 0, "ZeroDivisionError"),
        (lambda lease: 5, "returned int"),
        (lambda lease: lease.result({"copied": b""}, facts={"bad": object()}), "TypeError"),
        (lambda lease: lease.result({"copied": b""}, facts={1: 2}), "facts"),
        (lambda lease: lease.result({"copied": b""}, facts={"long": "x" * (1 << 20)}), "bytes"),
    ],
)
def test_bugs_of_an_operation_are_reported_and_survived(
    function: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(function)
    assert error["name"] == "internal" and message in error["message"]


def test_an_unknown_error_name_is_internal() -> None:
    def copy(lease: Lease) -> Result:
        raise Refused("no_such_name", "words")

    error = error_of(copy)
    assert (error["name"], error["message"]) == ("internal", "words")


def test_a_result_without_the_promised_output_is_a_wrong_output() -> None:
    assert error_of(lambda lease: lease.result())["name"] == "wrong_output"


def refusing(lease: Lease) -> Result:
    """Lets nothing pass but what ends in a full stop."""
    if not lease.input("copied").endswith(b"."):
        raise Refused("wrong_input", "no full stop", {"kind": "copied"})
    return lease.result()


def checked(*copies: bytes) -> Bench:
    """Components that make these copies, the first one preferred, and one that checks them."""
    checker = Plugin()
    checker.operation("verify", "copy")(refusing)
    check = Operation("verify", "copy", ("copied",), checks=("copied",))
    makers = [
        (copier(lambda lease, copy=copy: lease.result({"copied": copy})), manifest(name=f"copier{n}", rank=-n))
        for n, copy in enumerate(copies)
    ]
    return Bench((checker, manifest(check, name="checker")), *makers)


def test_a_wrong_artifact_is_made_again_by_another_plugin() -> None:
    with checked(b"wrong", b"right.") as bench:
        outcome = bench.run({"original": b"x"}, target="copied")
        assert outcome.document["state"] == "done" and outcome.outputs["copied"] == b"right."
        assert outcome.document["verified"] == ["copied"]
        (degraded,) = outcome.document["degraded"]
        assert "copier1 took over from copier0" in degraded and "no full stop" in degraded


def test_a_wrong_artifact_that_nobody_else_makes_fails_the_job() -> None:
    with checked(b"wrong") as bench:
        document = bench.run({"original": b"x"}, target="copied").document
    error = document["error"]
    assert error["name"] == "wrong_output"
    assert "copier0" in error["message"] and "no full stop" in error["message"]


def test_retry_later_is_tried_again() -> None:
    tries: list[int] = []

    def copy(lease: Lease) -> Result:
        tries.append(lease.epoch)
        if len(tries) < 3:
            raise Refused("retry_later", "not now")
        return lease.result({"copied": b"y"})

    with bench_of(copy) as bench:
        assert bench.run({"original": b"x"}, target="copied").document["state"] == "done"
    assert len(tries) == 3 and sorted(set(tries)) == tries, "each with a higher epoch"


def test_cancelling_a_job_ends_its_operation() -> None:
    began, ended = threading.Event(), threading.Event()

    def copy(lease: Lease) -> None:
        began.set()
        assert lease.cancelled.wait(60)
        with pytest.raises(Revoked):
            lease.input("original")
        ended.set()
        lease.check()

    with bench_of(copy) as bench:
        job = bench.submit({"original": b"x"}, target="copied")
        assert began.wait(60)
        assert bench.call(calls.cancel(job, None, None))["state"] == "cancelled"
        bench.settle()
        assert ended.is_set()
        assert bench.kernel.counters["late"] == 0


@pytest.mark.parametrize("end", ["kill", "crash"])
def test_work_of_a_plugin_that_ends_is_done_by_the_next_one(end: str) -> None:
    lives: list[tuple[int, int]] = []

    def copy(lease: Lease) -> Result:
        lives.append((lease.epoch, lease.seed))
        if len(lives) == 1:
            bench.post(lambda: bench.kill("copier") if end == "kill" else None)
            assert lease.cancelled.wait(60)
        return lease.result({"copied": b"life %d" % len(lives)})

    with bench_of(copy, restart=Restart(max_deaths=100)) as bench:
        job = bench.submit({"original": b"x"}, target="copied", seed=5)
        bench.run_until(lambda: len(lives) == 1)
        if end == "crash":
            bench.call(calls.fault("copier", "crash", 0.0, None, None))
        outcome = bench.wait(job)
    assert outcome.outputs["copied"] == b"life 2"
    assert outcome.document["restarts"] == 1
    assert lives[0][0] < lives[1][0] and lives[0][1] == lives[1][1]


def test_poison_is_recognised() -> None:
    def copy(lease: Lease) -> None:
        bench.post(lambda: bench.kill("copier"))
        lease.cancelled.wait(60)

    with bench_of(copy, restart=Restart(max_deaths=1000)) as bench:
        document = bench.run({"original": b"x"}, target="copied").document
    assert (document["state"], document["error"]["name"]) == ("failed", "poison")


def test_slow_is_slow_and_still_right() -> None:
    with bench_of(lambda lease: lease.result({"copied": b"y"})) as bench:
        bench.call(calls.fault("copier", "slow", 0.001, None, None))
        bench.settle()
        assert bench._of("copier").host.slow == 0.001
        assert bench.run({"original": b"x"}, target="copied").document["state"] == "done"


def test_preparation_comes_before_the_first_lease() -> None:
    order: list[str] = []

    def copy(lease: Lease) -> Result:
        order.append("operation")
        return lease.result({"copied": b""})

    plugin = copier(copy)
    plugin.prepare(lambda: order.append("preparation"))
    with Bench((plugin, manifest())) as bench:
        bench.run({"original": b"x"}, target="copied")
    assert order == ["preparation", "operation"]


def test_the_same_key_is_the_same_job() -> None:
    with bench_of(lambda lease: lease.result({"copied": b""})) as bench:
        stored = bench.call(calls.put(b"x", lambda: bench._session.limits, None))
        submit = lambda seed: calls.submit({"target": "copied", "seed": seed}, {"original": stored}, "k", None)  # noqa: E731
        assert bench.call(submit(1)) == bench.call(submit(1))
        with pytest.raises(RequestFailed, match="key"):
            bench.call(submit(2))


def stream_plugins(received: list[Any]) -> tuple[tuple[Plugin, Manifest], tuple[Plugin, Manifest]]:
    source, sink = Plugin(), Plugin()

    @source.operation("source", "run")
    def produce(lease: Lease) -> Result:
        writer: StreamWriter = lease.stream
        for i in range(20):
            writer.send({"n": i}, bytes([i]))
            assert writer.recv().header == {"twice": 2 * i}
        writer.drain()
        return lease.result()

    @sink.operation("sink", "run")
    def consume(lease: Lease) -> Result:
        reader: StreamReader = lease.stream
        for message in reader:
            received.append((lease.batch, message.header["n"], message.payload))
            reader.send({"twice": 2 * message.header["n"]})
            reader.ack()
        return lease.result({"counts": b"%d" % lease.shots}, summary={"sum": {"shots": lease.shots}})

    produce_op = Operation("source", "run", ("original",), (), each="batch", stream_out="numbers")
    consume_op = Operation("sink", "run", (), ("counts",), each="batch", stream_in="numbers")
    return (source, manifest(produce_op, name="source")), (sink, manifest(consume_op, name="sink"))


def test_a_stream_joins_two_plugins_batch_by_batch() -> None:
    received: list[Any] = []
    with Bench(*stream_plugins(received)) as bench:
        document = bench.run({"original": b""}, shots=10, batch=4, set={"credit": "1"}).document
    assert document["state"] == "done", document
    assert document["summary"]["sum"]["shots"] == 10
    assert sorted(received) == [(batch, n, [bytes([n])]) for batch in range(3) for n in range(20)]


def test_an_operation_can_be_called_like_a_function() -> None:
    reports: list[tuple[float, str]] = []
    reader, writer = stream_pair(credit=3)

    def double(lease: Lease) -> Result:
        lease.progress(0.25, "a")
        lease.stream.send({"x": lease.input("original")})
        return lease.result({"copied": lease.input("original") * 2})

    lease = make_lease(
        "copy.copy", {"original": b"ab"}, {"o": 1}, shots=3, stream=writer, report=lambda *said: reports.append(said)
    )
    assert double(lease).outputs == {"copied": b"abab"}
    assert reader.recv().header == {"x": b"ab"}
    assert reports == [(0.25, "a")] and (lease.shots, lease.options) == (3, {"o": 1})


@pytest.mark.parametrize("big", [False, True])
def test_the_kernel_may_die_between_any_two_steps_and_nobody_notices(big: bool) -> None:
    original = bytes(range(256)) * (CHUNK // 128 if big else 1)
    lives: list[tuple[int, int]] = []

    def copy(lease: Lease) -> Result:
        lives.append((lease.number, lease.epoch))
        return lease.result({"copied": lease.input("original")[::-1]}, facts={"epoch": 1})

    steps, ended = 0, False
    while not ended:
        lives.clear()
        with bench_of(copy) as bench:
            job = bench.submit({"original": original}, target="copied")
            for _ in range(steps):
                ended = not bench._next(block=bench._busy())
            bench.restart_kernel(away=steps % 3)
            outcome = bench.wait(job)
            process = [one["incarnation"] for one in bench.call(calls.plugins(None))]
        assert outcome.outputs["copied"] == original[::-1], steps
        assert (outcome.document["state"], process) == ("done", [1]), steps
        assert len(lives) == len(set(lives)), "no lease is carried out twice"
        steps += 1
    assert steps > 10


def test_the_kernel_may_die_again_and_again() -> None:
    with bench_of(lambda lease: lease.result({"copied": lease.input("original")})) as bench:
        jobs = []
        for number in range(10):
            jobs.append(bench.submit({"original": b"%d" % number}, target="copied"))
            bench.restart_kernel()
        assert [bench.wait(job).outputs["copied"] for job in jobs] == [b"%d" % number for number in range(10)]
        assert bench.call(calls.status(None))["boot"] == 11


def test_a_submission_with_the_same_key_is_one_job_across_boots() -> None:
    with bench_of(lambda lease: lease.result({"copied": lease.input("original")})) as bench:
        stored = {"original": bench.call(calls.put(b"x", bench._bounds, None))}
        submit = lambda: bench.call(calls.submit({"target": "copied"}, stored, "mine", None))  # noqa: E731
        job = submit()
        bench.restart_kernel()
        assert submit() == job
        bench.wait(job)
        bench.restart_kernel()
        assert submit() == job
        assert [row["job"] for row in bench.call(calls.jobs(9, None))] == [job]
