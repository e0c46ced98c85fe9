# SPDX-License-Identifier: Apache-2.0
"""Jobs of a running daemon, from outside: submit, list, show, wait, result, cancel; status, plugins, events."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from system_world import GREET, DaemonWorld, finish, read_until

from qcosd import __version__


def test_the_life_of_a_job(daemon: DaemonWorld, greeting: Path) -> None:
    submitted = daemon.ctl("job", "submit", greeting, *GREET)
    assert submitted.code == 0, submitted.err
    job = submitted.out.strip()
    waited = daemon.ctl("job", "wait", job, "--json")
    assert waited.code == 0
    assert waited.document["state"] == "done"
    assert daemon.ctl("job", "result", job, "--json").document == waited.document
    assert daemon.ctl("job", "show", job, "--json").document == waited.document
    (row,) = daemon.ctl("job", "list", "--json").document
    assert {key: row[key] for key in ("job", "state")} == {"job": job, "state": "done"}
    assert set(row) == {"job", "state", "submitted", "cause"}
    greeted = daemon.ctl("job", "result", job, "--artifact", "greeted")
    assert "qubits" in greeted.out
    for words in (("job", "list"), ("job", "show", job), ("job", "result", job)):
        assert job in daemon.ctl(*words).out


def test_the_same_key_is_the_same_job(daemon: DaemonWorld, greeting: Path) -> None:
    words = ("job", "submit", greeting, *GREET, "--seed", 1, "--key", "once", "--json")
    assert daemon.ctl(*words).document == daemon.ctl(*words).document
    other = daemon.ctl(*words, "--shots", 7)
    assert other.code == 1
    assert other.document["error"]["name"] == "key_conflict"
    assert len(daemon.ctl("job", "list", "--json").document) == 1


def test_nothing_to_show_is_said(daemon: DaemonWorld) -> None:
    none = daemon.ctl("events", "nope")
    assert (none.code, none.out, none.err) == (0, "", "qcosctl: no topic starts with nope\n")
    silent = daemon.ctl("plugin", "logs", "hello")
    assert (silent.code, silent.err) == (0, "qcosctl: hello has printed nothing\n")
    assert all(line.startswith("== ") for line in silent.out.splitlines()), "it was started"
    assert daemon.ctl("plugin", "logs", "hello", "-n", 0).err == ""


def test_a_job_that_waits_can_be_cancelled(daemon: DaemonWorld, greeting: Path) -> None:
    assert daemon.ctl("plugin", "stop", "hello").code == 0
    job = daemon.ctl("job", "submit", greeting, *GREET, "--json").document["job"]
    early = daemon.ctl("job", "result", job, "--json")
    assert early.code == 1
    assert early.document["error"]["name"] == "not_finished"
    late = daemon.ctl("job", "wait", job, "--timeout", 0.2)
    assert late.code == 4
    assert daemon.ctl("job", "show", job, "--json").document["cause"], "a held job says why"
    waiting = daemon.popen("job", "wait", job, "--json")
    assert daemon.ctl("job", "cancel", job, "--json").document["state"] == "cancelled"
    done = finish(waiting)
    assert done.code == 1
    assert done.document["state"] == "cancelled"
    assert daemon.ctl("job", "cancel", job).code == 0, "cancelling again changes nothing"


def test_ctrl_c_on_wait_leaves_the_job_alone(daemon: DaemonWorld, greeting: Path) -> None:
    assert daemon.ctl("plugin", "stop", "hello").code == 0
    job = daemon.ctl("job", "submit", greeting, *GREET, "--json").document["job"]
    events = daemon.popen("events", "-f", "--json", f"job.{job}")
    read_until(events, lambda line: json.loads(line)["state"]["state"] == "held")
    events.send_signal(signal.SIGINT)
    done = finish(events)
    assert (done.code, done.err.strip()) == (130, "")
    waiting = daemon.popen("job", "wait", job, "--json")
    assert waiting.stderr is not None
    assert "is held" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    done = finish(waiting)
    assert (done.code, done.document["error"]["name"]) == (130, "interrupted")
    assert f"qcosctl job wait {job}" in done.err
    assert daemon.ctl("job", "show", job, "--json").document["state"] == "held"


def test_unknown_names(daemon: DaemonWorld) -> None:
    for words, name in (
        (("job", "show", "nope"), "no_such_job"),
        (("job", "wait", "nope"), "no_such_job"),
        (("job", "result", "nope"), "no_such_job"),
        (("job", "cancel", "nope"), "no_such_job"),
        (("plugin", "stop", "nope"), "no_such_plugin"),
    ):
        done = daemon.ctl(*words, "--json")
        assert done.code == 1, words
        assert done.document["error"]["name"] == name
        assert done.err.count("\n") == 2
        assert f"qcosctl {words[0]} list" in done.err, "what to do about it"


def test_status_and_version_agree(daemon: DaemonWorld) -> None:
    status = daemon.ctl("status", "--json").document
    assert set(status) >= {"version", "pid", "boot", "state", "jobs", "plugins"}
    assert status["version"] == __version__
    assert status["pid"] == daemon.pid
    assert "hello" in status["plugins"]
    assert f"pid {daemon.pid}" in daemon.ctl("status").out


def test_plugins_are_listed_with_their_processes(daemon: DaemonWorld, greeting: Path) -> None:
    assert daemon.ctl("run", greeting, *GREET).code == 0
    rows = {row["name"]: row for row in daemon.ctl("plugin", "list", "--json").document}
    hello = rows["hello"]
    assert set(hello) >= {"name", "service", "state", "pid", "incarnation", "restarts", "uptime"}
    assert hello["pid"] in daemon.processes()
    assert "hello" in daemon.ctl("plugin", "list").out


def test_a_killed_plugin_comes_back_and_serves(daemon: DaemonWorld, greeting: Path) -> None:
    assert daemon.ctl("run", greeting, *GREET).code == 0

    def hello() -> dict[str, object]:
        (row,) = [row for row in daemon.ctl("plugin", "list", "--json").document if row["name"] == "hello"]
        return dict(row)

    before = hello()
    assert daemon.ctl("plugin", "kill", "hello").code == 0
    done = daemon.ctl("run", greeting, *GREET, "--json")
    assert done.code == 0, done.err
    after = hello()
    assert after["pid"] != before["pid"]
    assert after["restarts"] == 1


def test_events_tell_the_life_of_a_job_in_order(daemon: DaemonWorld, greeting: Path) -> None:
    events = daemon.popen("events", "-f", "--json")
    read_until(events, lambda line: json.loads(line)["topic"] == "kernel")
    job = daemon.ctl("job", "submit", greeting, *GREET, "--json").document["job"]
    lines = read_until(
        events, lambda line: (e := json.loads(line))["topic"] == f"job.{job}" and e["state"]["state"] == "done"
    )
    seen = [event for event in map(json.loads, lines) if event["topic"] == f"job.{job}"]
    numbers = [event["seq"] for event in seen]
    assert numbers == sorted(set(numbers))
    events.send_signal(signal.SIGINT)
    done = finish(events)
    assert (done.code, done.err.strip()) == (130, "")
    topics = daemon.ctl("events", "--json").document
    assert topics["kernel"]["state"]["boot"] == daemon.ctl("status", "--json").document["boot"]
    assert topics[f"job.{job}"]["state"]["state"] == "done"
    assert f"job.{job}#" in daemon.ctl("events", "job.").out


def test_no_daemon_any_more(daemon: DaemonWorld) -> None:
    assert daemon.stop() == 0
    done = daemon.ctl("status")
    assert done.code == 3
    assert "no qcosd in" in done.err
