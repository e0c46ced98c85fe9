# SPDX-License-Identifier: Apache-2.0
"""The service under a real systemd: what the unit promises when the daemon is killed, frozen, or stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcosd.shell.manifest import find_manifests

LAB = Path(__file__).parents[2] / "tools" / "lab" / "systemd"
PATIENCE = 120.0  # seconds until a command that waits for what never comes is a failure

pytestmark = pytest.mark.long


class Lab:
    """A machine of its own, with qcosd as its service and two small plugins."""

    def __init__(self, place: Path) -> None:
        needed = {"hello", "surface_code"}
        others = sorted(manifest.name for manifest in find_manifests([], []) if manifest.name not in needed)
        config = place / "qcosd.toml"
        config.write_text(f"[plugins]\ndisable = {json.dumps(others)}\n")
        self._environment = os.environ | {"LAB_DIR": str(place / "lab"), "LAB_CONFIG": str(config)}

    def run(self, *words: str, check: bool = True, timeout: float | None = PATIENCE) -> str:
        done = subprocess.run(
            [str(LAB), *words], env=self._environment, stdout=subprocess.PIPE, text=True, timeout=timeout, check=check
        )
        return done.stdout

    def property(self, name: str) -> str:
        return self.run("exec", "systemctl", "show", "--value", f"--property={name}", "qcosd").strip()

    def control_group(self) -> set[int]:
        """Pids in the unit's control group; none where there is no such group."""
        words = "find /sys/fs/cgroup -path '*qcosd.service/cgroup.procs' -exec cat {} + 2> /dev/null"
        return {int(pid) for pid in self.run("exec", "sh", "-c", words, check=False).split()}

    def plugins(self) -> list[dict[str, Any]]:
        """Their rows; none while nobody answers."""
        said = self.run("ctl", "plugin", "list", "--json", check=False)
        return json.loads(said) if said else []

    def until(self, condition: Callable[[], Any]) -> Any:
        """What the condition says once it is true. It looks by running a command, which is pause enough."""
        while not (said := condition()):
            pass
        return said

    def ready(self) -> dict[str, tuple[int, int]]:
        """Pid and incarnation of each plugin, once all are ready."""

        def look() -> dict[str, tuple[int, int]]:
            rows = self.plugins()
            if {row["state"] for row in rows} != {"ready"}:
                return {}
            return {row["name"]: (row["pid"], row["incarnation"]) for row in rows}

        found: dict[str, tuple[int, int]] = self.until(look)
        return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        pytest.skip("needs root and systemd-nspawn (Debian: systemd-container) to boot a machine")
    machine = Lab(tmp_path_factory.mktemp("systemd"))
    try:
        machine.run("up", timeout=None)  # it waits for its turn
    except subprocess.CalledProcessError:
        pytest.skip("a machine cannot be booted here: no overlay mounts or no control groups (its console is above)")
    try:
        yield machine
    finally:
        machine.run("down")


@pytest.fixture
def service(lab: Lab) -> Iterator[Lab]:
    lab.run("exec", "systemctl", "start", "qcosd")
    yield lab
    lab.run("exec", "systemctl", "stop", "qcosd")
    lab.run("exec", "systemctl", "reset-failed", "qcosd", check=False)


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_plugins_stay_when_the_daemon_is_replaced(service: Lab, signal: str) -> None:
    """Killed, it is started again at once. Frozen, the watchdog kills it, and then the same."""
    plugins, daemon = service.ready(), service.property("MainPID")
    restarts = int(service.property("NRestarts"))
    service.run("exec", "systemctl", "kill", f"--signal={signal}", "--kill-whom=main", "qcosd")
    service.until(lambda: int(service.property("NRestarts")) == restarts + 1)
    service.until(lambda: service.property("ActiveState") == "active")
    assert service.property("MainPID") not in ("0", daemon)
    assert service.ready() == plugins
    pids = {pid for pid, _ in plugins.values()}
    assert service.control_group() >= pids | {int(service.property("MainPID"))}


def test_an_ordered_stop_leaves_nothing(service: Lab) -> None:
    """Also of plugins that the stopping daemon has not started itself."""
    service.ready()
    service.run("exec", "systemctl", "kill", "--signal=KILL", "--kill-whom=main", "qcosd")
    plugins = service.until(service.ready)
    assert service.control_group() >= {pid for pid, _ in plugins.values()}
    service.run("exec", "systemctl", "stop", "qcosd")
    assert (service.property("ActiveState"), service.property("Result")) == ("inactive", "success")
    assert service.control_group() == set()
    assert service.run("exec", "pgrep", "-u", "qcos", check=False) == ""
    assert service.run("exec", "find", "/run/qcos", check=False) == ""
