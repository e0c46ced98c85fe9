# SPDX-License-Identifier: Apache-2.0
"""What whoever looks after the daemon sees and does: explain, logs, show, doctor, rerun."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system_world import EXAMPLES, GREET, PATIENCE, DaemonWorld, World, await_condition, await_job

from qcosd.sdk.client import BlockingClient
from qcosd.sdk.errors import RequestFailed

OTHERS = (
    "grid_mapper", "matching_tracker", "pytket_compile", "pytket_optimise", "pyzx_optimise", "recorded_adapter", "stim_adapter", "surface_code",
    "tableau_adapter", "verifier",
)  # fmt: skip


class LeanWorld(DaemonWorld):
    """A daemon with the plugin `hello` alone: it is there at once."""

    def start(self, *words: object) -> None:
        config = self.file("qcosd.toml", f"[plugins]\ndisable = {json.dumps(OTHERS)}\n")
        super().start("--config", config, *words)


@pytest.fixture
def lean(world: World) -> Iterator[LeanWorld]:
    daemon = LeanWorld(world.home, world.mark)
    daemon.start()
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        assert daemon.stop() == 0, daemon.log()


def events(daemon: DaemonWorld, job: str) -> list[str]:
    return [row["event"] for row in daemon.ctl("job", "explain", job, "--json").document["story"]]


def test_a_process_with_a_stream_is_preferred_by_the_system(daemon: DaemonWorld) -> None:
    """And says what is so: not everybody may raise a process."""
    job = daemon.ctl("job", "submit", EXAMPLES / "ghz.qasm", "--shots", 100_000, "--batch", 64).out.strip()
    await_job(daemon.runtime, lambda state: state["job"] == job and state["stage"] == "track.run")
    (row,) = daemon.ctl("plugin", "show", "matching_tracker", "--json").document["instances"]
    so, *refused = row["scheduling"].split("; ")
    assert so.startswith(f"nice {os.getpriority(os.PRIO_PROCESS, row['pid'])}, ")
    assert so.startswith("nice -5, ") or refused
    assert f"runs as {row['scheduling']}" in daemon.ctl("plugin", "show", "matching_tracker").out
    assert daemon.ctl("job", "cancel", job).code == 0


def kill(daemon: DaemonWorld) -> None:
    assert daemon.process is not None
    daemon.process.kill()
    daemon.process.wait(PATIENCE)


def test_a_job_is_explained_over_deaths_of_plugin_and_daemon(lean: LeanWorld, greeting: Path) -> None:
    assert lean.ctl("run", greeting, *GREET).code == 0, "it is connected"
    with BlockingClient(lean.runtime, connect_grace=PATIENCE) as client:
        client.fault("hello", "slow", 2 * PATIENCE)  # it keeps the work until it is killed
    job = lean.ctl("job", "submit", greeting, *GREET).out.strip()
    await_job(lean.runtime, lambda state: state["job"] == job and state["stage"] == "hello.greet")
    shown = lean.ctl("plugin", "show", "hello", "--json").document
    (row,) = shown["instances"]
    (lease,) = row["leases"]
    assert (lease["job"], lease["op"], lease["batch"], lease["revoked"]) == (job, "hello.greet", None, False)
    assert f"hello.greet of job {job}" in lean.ctl("plugin", "show", "hello").out
    kill(lean)
    lean.start()
    os.kill(row["pid"], signal.SIGKILL)
    assert lean.ctl("job", "wait", job).code == 0
    assert events(lean, job) == ["accepted", "given", "boot", "lost", "given", "delivered", "ended"]
    told = lean.ctl("job", "explain", job).out
    assert f"hello.greet given to hello/{row['incarnation']}\n" in told
    assert f"hello.greet lost by hello/{row['incarnation']}: hello: " in told
    assert "the daemon was started again (boot 2)" in told
    assert "(epoch 2)" in told
    assert told.rstrip().endswith("done")
    logs = lean.ctl("job", "logs", job, "--json").document
    assert logs["logs"].keys() == {"hello"}


def test_the_end_of_a_log_outlives_the_daemon(lean: LeanWorld, greeting: Path) -> None:
    assert lean.ctl("run", greeting, *GREET).code == 0
    kill(lean)
    with (lean.home / "state" / "logs" / "hello.log").open("a") as log:
        log.write("one\ntwo\nthree\n")
    lean.start()
    assert "one\ntwo\nthree\n" in lean.ctl("plugin", "logs", "hello").out
    (last,) = lean.ctl("plugin", "logs", "hello", "-n", 1, "--json").document["lines"]
    assert lean.ctl("job", "logs", 1, "-n", 1, "--json").document["logs"] == {"hello": [last]}
    assert lean.ctl("plugin", "logs", "nope").code == 1


def test_the_log_of_each_process_says_which_life_wrote_it(lean: LeanWorld) -> None:
    folder = lean.home / "plugins" / "twins"
    folder.mkdir(parents=True)
    manifest = (EXAMPLES.parents[1] / "plugins" / "hello" / "plugin.toml").read_text()
    (folder / "plugin.toml").write_text("replicas = 2\n" + manifest.replace('"hello"\nversion', '"twins"\nversion'))
    assert lean.stop() == 0
    lean.start("--plugin-dir", folder.parent)

    def second() -> dict[str, Any]:
        (row,) = [row for row in lean.ctl("plugin", "list", "--json").document if row["name"] == "twins:2"]
        return dict(row)

    await_condition(lambda: second()["state"] == "ready", "the second of the twins is ready")
    lives = [second()]
    assert lean.ctl("plugin", "kill", "twins:2").code == 0
    await_condition(lambda: second()["incarnation"] > lives[0]["incarnation"] and second()["pid"], "another life of it")
    lives.append(second())
    marks = [f" twins:2 incarnation {life['incarnation']} pid {life['pid']} started" for life in lives]
    lines = [
        line for line in lean.ctl("plugin", "logs", "twins:2", "--json").document["lines"] if line.startswith("== ")
    ]
    assert [line.partition("T")[2][12:] for line in lines] == marks
    both = lean.ctl("plugin", "logs", "twins").out
    assert both.index("==> twins <==") < both.index("==> twins:2 <==") < both.index(marks[1])
    assert lean.ctl("plugin", "logs", "twins:3").code == 1
    assert lean.ctl("plugin", "kill", "twins:x").code == 1


def test_the_doctor_names_what_is_wrong_and_what_helps(lean: LeanWorld, greeting: Path) -> None:
    assert lean.ctl("run", greeting, *GREET).code == 0
    well = lean.ctl("doctor", "--json")
    assert (well.code, well.document["findings"]) == (0, [])
    assert "nothing is wrong" in lean.ctl("doctor").out
    status = lean.ctl("status", "--json").document
    assert status["space"]["total"] >= status["space"]["free"] > 0
    assert "boot 1, up " in lean.ctl("status").out
    assert lean.ctl("plugin", "stop", "hello").code == 0
    killed = lean.ctl("plugin", "kill", "hello", "--json")
    assert (killed.code, killed.document["error"]["name"]) == (1, "no_process")
    assert "hello has no process: it is down" in killed.err and "qcosctl plugin start" in killed.err
    job = lean.ctl("job", "submit", greeting, *GREET).out.strip()
    ill = lean.ctl("doctor", "--json")
    assert ill.code == 1
    assert [row["name"] for row in ill.document["findings"]] == ["plugin_down", "job_held"]
    assert ill.document["findings"][0]["remedy"] == "`qcosctl plugin start hello`"
    assert f"job {job} (held): " in lean.ctl("doctor").out
    assert lean.ctl("plugin", "start", "hello").code == lean.ctl("job", "cancel", job).code == 0
    assert lean.ctl("doctor").code == 0
    assert lean.stop() == 0
    absent = lean.ctl("doctor", "--json")
    assert (absent.code, [row["name"] for row in absent.document["findings"]]) == (3, ["no_daemon"])


def test_a_state_directory_from_a_backup_is_noticed_and_its_loss_can_be_accepted(lean: LeanWorld, greeting: Path) -> None:  # fmt: skip
    state = lean.home / "state"
    old = lean.ctl("job", "submit", greeting, *GREET).out.strip()
    assert lean.ctl("job", "wait", old).code == 0
    assert lean.stop() == 0
    shutil.copy(state / "journal.db", lean.home)  # stopped in order: there is no WAL beside it
    lean.start()
    lost = lean.ctl("job", "submit", greeting, *GREET).out.strip()
    assert lean.ctl("job", "wait", lost).code == 0
    assert lean.stop() == 0
    shutil.copy(lean.home / "journal.db", state)
    lean.start()
    found = lean.ctl("doctor", "--json")
    assert found.code == 1, found.out
    assert [row["name"] for row in found.document["findings"]] == ["rolled_back"]
    assert "see `qcosctl doctor`" in lean.ctl("status").out
    waited = lean.ctl("job", "wait", lost, "--json")
    assert (waited.code, waited.document["error"]["name"]) == (1, "rolled_back")
    assert "doctor --accept" in waited.err
    refused = lean.ctl("job", "submit", greeting, *GREET, "--json")
    assert refused.document["error"]["name"] == "rolled_back"
    accepted = lean.ctl("doctor", "--accept")
    assert accepted.code == 0, accepted.out
    assert lean.ctl("job", "show", old).code == 0
    assert lean.ctl("job", "show", lost).code == 1, "the loss was accepted"
    new = lean.ctl("run", greeting, *GREET, "--json")
    assert new.code == 0, new.err
    assert int(new.document["job"]) > int(lost), "no number is used twice"


def result_of(document: dict[str, Any]) -> dict[str, Any]:
    """What of a result does not depend on time."""
    varying = {"job", "submitted", "seconds", "latency_us", "decode_us_per_round", "verified"}
    return {key: value for key, value in document.items() if key not in varying}


def test_a_job_run_again_has_the_same_bits(daemon: DaemonWorld) -> None:
    words = ("run", EXAMPLES / "ghz.qasm", "--shots", 600, "--noise", 0.003, "--seed", 11, "--json")
    first = daemon.ctl(*words)
    assert first.code == 0, first.err
    old = first.document["job"]
    again = daemon.ctl("job", "rerun", old).out.strip()
    planned = daemon.ctl("job", "rerun", old, "--plan", "--json").document
    unchecked = daemon.ctl(*words, "--no-verify").document["job"]
    assert planned["rerun_of"] == old
    for job in (again, planned["job"], unchecked):
        done = daemon.ctl("job", "wait", job, "--json")
        assert done.code == 0, done.err
        assert result_of(done.document) == result_of(first.document)
    plans = [
        daemon.ctl("job", "explain", job, "--json").document["plan"] for job in (old, again, planned["job"], unchecked)
    ]
    assert all(plan == plans[0] for plan in plans)
    assert plans[0]["batch"] == 256 and plans[0]["batches"] == 3
    assert not {"given", "delivered"} & set(events(daemon, planned["job"])), "everything of the whole job was there"

    # Options alone do not say how far the optimiser got in its budget: the plan does.
    program = daemon.file("detour.qasm", 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nh q;h q;h q;h q;x q;\nmeasure q -> c;\n')  # fmt: skip
    words = ("run", program, "--shots", 64, "--seed", 2, "--json")
    hasty = daemon.ctl(*words, "--set", "optimise_budget=0").document["job"]
    thorough = daemon.ctl(*words).document["job"]
    with BlockingClient(daemon.runtime, connect_grace=PATIENCE) as client:
        documents = {job: client.job(job) for job in (hasty, thorough)}
        plans = {job: document["plan"] for job, document in documents.items()}
        assert plans[hasty]["artifacts"]["optimised"] != plans[thorough]["artifacts"]["optimised"]
        options = {**documents[thorough]["options"], "plan": plans[hasty]}
        followed = client.wait(client.submit(options, documents[thorough]["inputs"]))
    assert followed["plan"] == plans[hasty]
    for part in ("counts", "counts_undecoded", "detection_events"):
        assert followed["summary"]["sum"][part] == documents[hasty]["summary"]["sum"][part]


def test_a_plan_is_followed_exactly_or_not_at_all(lean: LeanWorld, greeting: Path) -> None:
    assert lean.ctl("plugin", "stop", "hello").code == 0
    waiting = lean.ctl("job", "submit", greeting, *GREET).out.strip()
    early = lean.ctl("job", "rerun", waiting, "--plan")
    assert early.code == 1 and "only a job that is done" in early.err
    with BlockingClient(lean.runtime, connect_grace=PATIENCE) as client:
        sha = client.put(b"qubits")
        gone = {"plan": {"artifacts": {"greeted": "0" * 64}}, "target": "greeted"}
        stranger = {"plan": {"providers": {"hello.greet": "nobody"}}, "target": "greeted"}
        for options, text in ((gone, "is not kept any more"), (stranger, "plan: 'nobody' does not offer hello")):
            with pytest.raises(RequestFailed, match=text):
                client.submit(options, {"greeting": sha})
    assert lean.ctl("job", "cancel", waiting).code == 0
