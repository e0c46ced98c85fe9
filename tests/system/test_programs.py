# SPDX-License-Identifier: Apache-2.0
"""Programs through the whole system: command, kernel, six plugins, streams. What is right at p = 0 stays right under faults."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from system_world import EXAMPLES, DaemonWorld, World, await_job, await_private_job, finish

# Every outcome that a program can have without noise; each of them must be seen.
EXAMPLE_OUTCOMES = {
    "bell": {"00", "11"},
    "ghz": {"000", "111"},
    "ghz4": {"0000", "1111"},
    "superdense": {"11"},
    "teleport": {"0 0 0", "0 1 0", "1 0 0", "1 1 0"},
    "branch": {"0 0", "1 1"},
    "nested": {"0 0 0 0", "0 1 0 0", "1 0 0 0", "1 1 0 0", "1 1 1 1"},
    "idle": {"01"},
    "repetition": {"10 00 111"},
}
# Those with T gates: what they may give, of which each must be seen if it is certain or frequent.
UNIVERSAL_OUTCOMES = {
    "adder": {"1 1"},
    "bernstein_vazirani": {"101"},
    "deutsch_jozsa": {"001", "011", "101", "111"},
    "phase_estimation": {"0 0 1"},
    "repeat_until_success": {"0 1", "1 0"},
}
SPREAD = {"clifford_t", "grover", "qft"}
"""Examples whose outcomes are compared in distribution, in tests/plugins/test_examples.py."""
PUBLIC_KEYS = {
    "job", "state", "shots", "counts", "counts_undecoded", "registers", "bit_order", "distance", "noise", "seed", "rounds",
    "window", "detectors", "detection_events", "decoder", "calibration", "assumptions", "shots_discarded", "shots_restarted",
    "stall_rounds", "latency_us", "restarts", "degraded", "reproducible", "versions", "seconds",
}  # fmt: skip
LONG = ("--shots", 1_000_000, "--distance", 5)
"""Options of a job that certainly still runs when the test does something to it."""


def run(world: World, program: str, *options: object) -> dict[str, Any]:
    """The document of a run that must succeed."""
    done = world.ctl("run", EXAMPLES / f"{program}.qasm", *options, "--json")
    assert done.code == 0, done.err
    document: dict[str, Any] = done.document
    return document


def test_every_example_is_listed() -> None:
    assert {*EXAMPLE_OUTCOMES, *UNIVERSAL_OUTCOMES, *SPREAD} == {path.stem for path in EXAMPLES.glob("*.qasm")}


def test_examples_without_noise_give_exactly_their_outcomes(daemon: DaemonWorld) -> None:
    for name, outcomes in EXAMPLE_OUTCOMES.items():
        document = run(daemon, name, "--shots", 300, "--noise", 0, "--seed", 1)
        assert set(document["counts"]) == outcomes, name
        assert sum(document["counts"].values()) == 300
        assert document["detection_events"] == 0


@pytest.mark.long
def test_examples_with_t_gates_without_noise_give_exactly_their_outcomes(daemon: DaemonWorld) -> None:
    for name, outcomes in UNIVERSAL_OUTCOMES.items():
        document = run(daemon, name, "--shots", 300, "--noise", 0, "--seed", 1)
        assert set(document["counts"]) == outcomes, name
        assert document["detection_events"] == 0
    assert run(daemon, "grover", "--shots", 400, "--noise", 0, "--seed", 1)["counts"]["101"] > 350
    # Corrections in branches mean the same.
    branching = ("--shots", 300, "--noise", 0, "--seed", 1, "--set", "feedback=insert", "--no-verify")
    assert set(run(daemon, "repeat_until_success", *branching)["counts"]) == UNIVERSAL_OUTCOMES["repeat_until_success"]


def test_the_document_says_everything(world: World) -> None:
    document = run(world, "ghz", "--shots", 500, "--distance", 5, "--noise", 0.002, "--seed", 9)
    assert set(document) >= PUBLIC_KEYS
    assert {key: document[key] for key in ("shots", "distance", "noise", "seed", "decoder", "state")} == {
        "shots": 500,
        "distance": 5,
        "noise": 0.002,
        "seed": 9,
        "decoder": "pymatching-tempered",
        "state": "done",
    }
    assert document["registers"] == {"c": 3}
    assert document["window"] == {"commit": 5, "buffer": 5, "scheme": "sliding"}
    assert document["rounds"] > 0
    assert document["detection_events"] > 0
    assert document["latency_us"]["p50"] <= document["latency_us"]["p99"] <= document["latency_us"]["p999"]
    assert document["calibration"]
    wrong, raw = (
        sum(n for outcome, n in document[key].items() if len(set(outcome)) > 1)
        for key in ("counts", "counts_undecoded")
    )
    assert sum(document["counts"].values()) == sum(document["counts_undecoded"].values()) == 500
    assert wrong < raw / 4, "decoding must be good for something"


def test_the_same_seed_gives_the_same_counts_everywhere(world: World, daemon: DaemonWorld) -> None:
    options = ("--shots", 700, "--noise", 0.003, "--seed", 77)
    first = run(daemon, "teleport", *options)
    again = run(daemon, "teleport", *options)
    slow = run(daemon, "teleport", *options, "--set", "credit=1")
    private = run(world, "teleport", *options, "--runtime-dir", world.home / "nothing-here")
    other = run(daemon, "teleport", *options[:-1], 78)
    for document in (again, slow, private):
        assert document["counts"] == first["counts"]
        assert document["counts_undecoded"] == first["counts_undecoded"]
        assert document["detection_events"] == first["detection_events"]
    assert other["counts_undecoded"] != first["counts_undecoded"]


def test_the_clock_of_the_machine_changes_no_bit(daemon: DaemonWorld) -> None:
    options = ("--shots", 200, "--batch", 100, "--noise", 0.003, "--seed", 77)
    virtual = run(daemon, "branch", *options)
    timed = run(daemon, "branch", *options, "--set", "round_time=1e-4")
    steady = run(daemon, "branch", *options, "--set", "round_time=1e-4", "--set", "can_pause=false")
    for document in (timed, steady):
        assert document["counts"] == virtual["counts"]
        assert document["counts_undecoded"] == virtual["counts_undecoded"]
        assert document["lateness_us"]["p50"] <= document["lateness_us"]["p999"]
        assert document["stall_rounds"] > 0, "a decision takes time"
        assert 0 < document["reaction_us"]["p50"] <= document["reaction_us"]["p999"]
    assert (virtual["lateness_us"], virtual["stall_rounds"]) == (None, 0)
    assert virtual["decode_us_per_round"] > 0
    assert virtual["utilisation"] is None
    assert timed["utilisation"] > 0


@pytest.mark.long
def test_twice_what_can_be_decoded_is_refused_in_real_time_and_waited_for_in_virtual_time(daemon: DaemonWorld) -> None:
    options = ("--shots", 1_000_000, "--batch", 1024, "--noise", 0.005, "--distance", 5, "--seed", 5)
    few = run(daemon, "ghz", "--shots", 2048, *options[2:], "--set", "credit=1")
    assert sum(few["counts"].values()) == 2048, "credit is all that there is to overload"
    round_time = few["decode_us_per_round"] / 1e6 / 2
    done = daemon.ctl("run", EXAMPLES / "ghz.qasm", *options, "--set", f"round_time={round_time:.9f}", "--json")
    assert done.code == 1
    error = done.document["error"]
    assert error["name"] == "backlog"
    assert error["details"]["utilisation"] > 1
    assert f"decoding takes {error['details']['utilisation']:.2f} times as long" in done.err
    assert "a round_time above" in done.err
    roomy = run(daemon, "ghz", "--shots", 2048, *options[2:], "--set", f"round_time={40 * round_time:.9f}")
    assert roomy["counts"] == few["counts"]


@pytest.mark.parametrize(
    "program", [name for name in EXAMPLE_OUTCOMES if "if (" in (EXAMPLES / f"{name}.qasm").read_text()]
)
@pytest.mark.parametrize("batch", [1, 64])
def test_programs_with_if_finish_on_a_credit_of_one(daemon: DaemonWorld, program: str, batch: int) -> None:
    options = ("--shots", batch * 3, "--batch", batch, "--noise", 0.001, "--set", "credit=1")
    assert sum(run(daemon, program, *options)["counts"].values()) == batch * 3


def test_what_does_not_fit_is_refused_with_a_counter_offer(world: World) -> None:
    done = world.ctl("run", EXAMPLES / "ghz.qasm", "--device", "small-grid", "--distance", 9, "--json")
    assert done.code == 1
    error = done.document["error"]
    assert error["name"] == "does_not_fit"
    offer = error["details"]["largest_distance"]
    assert offer == 3
    assert str(offer) in done.err
    run(world, "ghz", "--device", "small-grid", "--distance", offer, "--shots", 50)


@pytest.mark.parametrize("options", [("--device", "nonsense"), ("--set", "credit=none")])
def test_what_a_plugin_or_the_kernel_finds_wrong_is_exit_2(world: World, options: tuple[str, str]) -> None:
    done = world.ctl("run", EXAMPLES / "bell.qasm", *options)
    assert done.code == 2, done
    assert len(done.err.splitlines()) == 2, done.err
    assert "Traceback" not in done.err


def has_run_a_batch(job: Mapping[str, Any]) -> bool:
    return job["state"] == "running" and job.get("batches", {}).get("done", 0) >= 1


def test_ctrl_c_in_the_middle_of_the_rounds(daemon: DaemonWorld) -> None:
    process = daemon.popen("run", EXAMPLES / "ghz.qasm", *LONG)
    job = await_job(daemon.runtime, has_run_a_batch)["job"]
    plugins = {row["name"]: row["pid"] for row in daemon.ctl("plugin", "list", "--json").document}
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, done.out) == (130, "")
    assert daemon.ctl("job", "show", job, "--json").document["state"] == "cancelled"
    run(daemon, "ghz", "--shots", 100)
    after = {row["name"]: row["pid"] for row in daemon.ctl("plugin", "list", "--json").document}
    assert after == plugins, "a cancelled job costs no plugin its life"


def test_ctrl_c_in_the_middle_of_the_rounds_of_a_private_daemon(world: World) -> None:
    process = world.popen("run", EXAMPLES / "ghz.qasm", *LONG)
    await_private_job(world, "running")
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    world.assert_empty()


@pytest.mark.parametrize("victim", ["stim_adapter", "matching_tracker"])
def test_a_plugin_killed_in_the_middle_changes_nothing(daemon: DaemonWorld, victim: str) -> None:
    options = ("--shots", 20_000, "--batch", 1000, "--noise", 0.003, "--distance", 5, "--seed", 3)
    calm = run(daemon, "bell", *options)
    for _ in range(3):  # between two batches there is a moment without a lease in hand
        process = daemon.popen("run", EXAMPLES / "bell.qasm", *options, "--json")
        await_job(daemon.runtime, has_run_a_batch)
        (pid,) = [row["pid"] for row in daemon.ctl("plugin", "list", "--json").document if row["name"] == victim]
        os.kill(pid, signal.SIGKILL)
        done = finish(process)
        assert done.code == 0, done.err
        for key in ("counts", "counts_undecoded", "detection_events"):
            assert done.document[key] == calm[key], key
        if done.document["restarts"]:
            return
    raise AssertionError("no kill met a batch")


def test_what_one_daemon_built_for_decoding_another_one_finds(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))

    def files() -> dict[str, int]:
        """A file that is written again is another one."""
        return {file.name: file.stat().st_ino for file in (tmp_path / "cache" / "templates").iterdir()}

    first = run(world, "bell", "--shots", 20, "--seed", 3, "--distance", 3)
    built = files()
    assert built
    second = run(world, "bell", "--shots", 20, "--seed", 3, "--distance", 3)
    assert files() == built
    assert first["counts"] == second["counts"]
