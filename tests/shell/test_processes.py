# SPDX-License-Identifier: Apache-2.0
"""Plugin processes, with real ones."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path

import pytest
from nursery import READ_BOOT, Nursery, daemon_life, in_nursery, is_gone

from qcosd.core.manifest import Manifest, ProcessLimits
from qcosd.shell.processes import command
from qcosd.shell.strays import Strays
from qcosd.shell.vitals import Vitals


def test_secret_output_and_status(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        program = READ_BOOT + "print(boot.decode()); print('oops', end='', file=sys.stderr); sys.exit(3)"
        pid = nursery.spawn(7, program)
        assert len(nursery.processes) == 1
        assert os.getsid(pid) == os.getpgid(pid) == pid
        nursery.processes.hand_over(7, b"the secret")
        assert await nursery.ends.get() == (7, "p", 3)
        assert nursery.logs.last_words("p") == ["the secret", "oops"]
        assert len(nursery.processes) == 0
        nursery.processes.signal(7, signal.SIGTERM)  # too late, and no harm
        nursery.processes.hand_over(7, b"again")

    in_nursery(tmp_path, test)


def test_killed_before_the_secret(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        nursery.spawn(1, READ_BOOT)
        nursery.processes.signal(1, signal.SIGKILL)
        assert await nursery.ends.get() == (1, "p", -signal.SIGKILL)

    in_nursery(tmp_path, test)


def test_a_kernel_that_dies_before_the_secret_leaves_no_plugin(tmp_path: Path) -> None:
    """The writing end closes with the daemon: the plugin reads end of file and exits by itself."""

    async def test(nursery: Nursery) -> None:
        nursery.spawn(1, READ_BOOT)
        process = nursery.processes._processes[1]
        os.close(process.boot)
        process.boot = -1
        assert await nursery.ends.get() == (1, "p", 9)

    in_nursery(tmp_path, test)


def test_signals_and_the_end_reach_the_whole_group(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        program = READ_BOOT + (
            "import subprocess; worker = subprocess.Popen(['sleep', '1000']);"
            "reading, writing = os.pipe(); os.write(int(boot), b'%d\\n' % worker.pid); sys.stdin = None;"
            "import signal; signal.pause()"
        )
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        program = program.replace("os.write(int(boot), ", f"os.write(os.open({str(fifo)!r}, os.O_WRONLY), ")
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        nursery.spawn(1, program)
        nursery.processes.hand_over(1, b"go")
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(
            reading, lambda: told.done() or told.set_result(int(os.read(reading, 99)))
        )
        worker = await told
        asyncio.get_running_loop().remove_reader(reading)
        os.close(reading)
        # The leader ends alone; its worker ends with it.
        os.kill(nursery.processes._processes[1].popen.pid, signal.SIGTERM)
        assert await nursery.ends.get() == (1, "p", -signal.SIGTERM)
        assert is_gone(worker)

    in_nursery(tmp_path, test)


def test_nothing_else_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/secret")
    monkeypatch.setenv("LISTEN_FDS", "3")

    async def test(nursery: Nursery) -> None:
        leak = os.open("/", os.O_RDONLY)
        os.set_inheritable(leak, True)
        program = READ_BOOT + (
            "import json; print(json.dumps({'fds': sorted(int(n) for n in os.listdir('/proc/self/fd')),"
            "'boot': int(os.environ['QCOS_BOOT_FD']), 'stdin': os.readlink('/proc/self/fd/0'), 'cwd': os.getcwd(),"
            "'env': [n for n in ('NOTIFY_SOCKET', 'LISTEN_FDS') if n in os.environ]}))"
        )
        nursery.spawn(1, program)
        nursery.processes.hand_over(1, b"go")
        await nursery.ends.get()
        os.close(leak)
        (line,) = nursery.logs.last_words("p")
        seen = json.loads(line)
        # 0, 1, 2 and the descriptor of the listing itself; the boot descriptor has been read and closed.
        assert len(seen["fds"]) == 4 and seen["fds"][:3] == [0, 1, 2]
        assert (seen["stdin"], seen["cwd"], seen["env"]) == ("/dev/null", "/", [])

    in_nursery(tmp_path, test)


def test_limits_are_set(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        program = READ_BOOT + "import resource as r; print([r.getrlimit(k) for k in (r.RLIMIT_DATA, r.RLIMIT_NOFILE, r.RLIMIT_CPU, r.RLIMIT_CORE)])"  # fmt: skip
        nursery.spawn(1, program, ProcessLimits(memory_mb=512, open_files=64, cpu_seconds=100))
        nursery.processes.hand_over(1, b"go")
        await nursery.ends.get()
        expected = [(512 << 20, 512 << 20), (64, 64), (100, 100), (0, 0)]
        assert nursery.logs.last_words("p") == [str(expected)]
        nursery.spawn(2, program)
        nursery.processes.hand_over(2, b"go")
        await nursery.ends.get()
        unlimited = [resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]
        assert nursery.logs.last_words("p")[0].startswith(str(unlimited)[:-1])

    in_nursery(tmp_path, test)


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        with pytest.raises(OSError, match="/nowhere/at-all"):
            nursery.processes.spawn(1, Manifest("p", "1", ("/nowhere/at-all",)), "p")
        plain = tmp_path / "plain"
        plain.write_text("no program")
        with pytest.raises(OSError, match="Permission denied"):
            nursery.processes.spawn(2, Manifest("p", "1", ("./plain",), folder=str(tmp_path)), "p")
        assert len(nursery.processes) == 0

    before = len(os.listdir("/proc/self/fd"))
    in_nursery(tmp_path, test)
    assert len(os.listdir("/proc/self/fd")) == before


def test_limits_that_cannot_be_set_leave_no_process(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        with pytest.raises(OSError, match="limits"):
            nursery.spawn(1, READ_BOOT, ProcessLimits(open_files=10**9))
        assert len(nursery.processes) == 0

    before = len(os.listdir("/proc/self/fd"))
    in_nursery(tmp_path, test)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_embedded_daemon_kills_what_is_left(tmp_path: Path) -> None:
    pids: list[int] = []

    async def test(nursery: Nursery) -> None:
        pids.extend(nursery.spawn(number, "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()") for number in range(3))  # fmt: skip
        nursery.processes.close()
        assert all(is_gone(pid) for pid in pids)

    in_nursery(tmp_path, test, embedded=True)


def test_no_shell_reads_the_command() -> None:
    manifest = Manifest("p", "1", ("{python}", "{folder}/main.py", "; rm -rf $HOME"), folder="/usr/lib/p")
    assert command(manifest) == [sys.executable, "/usr/lib/p/main.py", "; rm -rf $HOME"]
    assert command(Manifest("p", "1", ("bin/run",), folder="/usr/lib/p")) == ["/usr/lib/p/bin/run"]
    assert command(Manifest("p", "1", ("sleep", "1"), folder="/usr/lib/p")) == ["sleep", "1"]


@pytest.mark.parametrize("killed", [True, False])
def test_plugins_die_with_an_embedded_daemon(tmp_path: Path, killed: bool) -> None:
    assert all(is_gone(pid) for pid, _ in daemon_life(tmp_path, "embedded", killed))


@pytest.mark.parametrize("killed", [True, False])
def test_a_service_leaves_to_its_next_life_what_has_its_secret(tmp_path: Path, killed: bool) -> None:
    (settled, started), (fresh, _) = daemon_life(tmp_path, "service", killed)
    assert is_gone(fresh), "it reads end of file instead of a secret, and exits"
    assert Vitals(settled).started == started
    assert Strays(tmp_path).kill_others(()) == [settled]
    assert is_gone(settled)
