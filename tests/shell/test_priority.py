# SPDX-License-Identifier: Apache-2.0
"""What the system is told of processes that take part in an execution phase. The processes, their threads and the answers are real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nursery import Nursery, in_nursery

from qcosd.shell.config import Config, ConfigError, load_config
from qcosd.shell.priority import Preference, Priorities, described, listed, parsed

OWN = os.getpriority(os.PRIO_PROCESS, 0)
CPUS = frozenset(os.sched_getaffinity(0))
THREADED = "import threading, sys; threading.Thread(target=sys.stdin.read).start(); print(flush=True); sys.stdin.read()"


@pytest.fixture
def threaded() -> Iterator[subprocess.Popen[bytes]]:
    """A process of two threads."""
    with subprocess.Popen([sys.executable, "-c", THREADED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def threads(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir()]


def test_every_thread_is_moved_and_brought_back(threaded: subprocess.Popen[bytes]) -> None:
    one = frozenset([min(CPUS)])
    priorities = Priorities(Preference(OWN, 0, one))
    assert priorities.set(threaded.pid, True) == f"nice {OWN}, CPUs {min(CPUS)}"
    assert len(threads(threaded)) == 2
    assert all(os.sched_getaffinity(thread) == one for thread in threads(threaded))
    assert priorities.set(threaded.pid, False) == f"nice {OWN}, CPUs {listed(CPUS)}"
    assert all(os.sched_getaffinity(thread) == CPUS for thread in threads(threaded))


def test_what_is_granted_is_so_and_what_is_not_is_said(threaded: subprocess.Popen[bytes]) -> None:
    """Whoever runs this may raise it, or not."""
    for wanted in (Preference(OWN - 3, 0, frozenset()), Preference(OWN, 7, frozenset())):
        said = Priorities(wanted).set(threaded.pid, True)
        so, *refused = said.split("; ")
        assert so == described(threaded.pid)
        niceness = {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads(threaded)}
        policies = {os.sched_getscheduler(thread) for thread in threads(threaded)}
        if wanted.fifo:
            assert policies == ({os.SCHED_OTHER} if refused else {os.SCHED_FIFO})
        else:
            assert niceness == ({OWN} if refused else {OWN - 3})
        assert not refused or "refused: Operation not permitted" in refused[0]
        Priorities(wanted).set(threaded.pid, False)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_a_user_without_the_right_is_told_so() -> None:
    program = """
import os, resource
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
from qcosd.shell.priority import Preference, Priorities
priorities = Priorities(Preference(-20, 50, frozenset()))
os.setuid(65534)
print(priorities.set(os.getpid(), True))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    so = f"nice {OWN}, CPUs {listed(CPUS)}"
    refused = "SCHED_FIFO 50 refused: Operation not permitted"
    assert done.stdout.startswith(f"{so}; {refused}; nice -20 refused: ")


def test_a_process_that_has_ended_is_nobody(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        nursery.spawn(1, "pass")
        await nursery.ends.get()
        assert nursery.processes.set_priority(1, True) is None
        nursery.spawn(2, "import sys; sys.stdin.read(); import signal; signal.pause()")
        assert nursery.processes.set_priority(2, True) == f"nice 0, CPUs {listed(CPUS)}"

    in_nursery(tmp_path, test)


@pytest.mark.parametrize("text", ["", "0", "0-3", "0-1,4,6-7"])
def test_lists_of_cpus_are_read_as_they_are_written(text: str) -> None:
    assert listed(parsed(text)) == (text or "all")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("online_nice = 20", "online_nice from -20 to 19"),
        ("online_fifo = 100", "online_fifo from 0 to 99"),
        ("online_cpus = '0-'", "'processes.online_cpus' is not a list"),
        ("online_cpus = '4000'", "'processes.online_cpus' names CPUs that the daemon has not: 4000"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "qcosd.toml"
    path.write_text(f"[processes]\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    assert Config().processes.preference == Preference(-5, 0, frozenset())
