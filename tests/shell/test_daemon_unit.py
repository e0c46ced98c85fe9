# SPDX-License-Identifier: Apache-2.0
"""The systemd unit of the daemon."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_valid() -> None:
    unit = ROOT / "systemd" / "qcosd.service"
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(security, capture_output=True).returncode == 0


def test_the_unit_lets_the_daemon_tell_users_apart() -> None:
    unit = (ROOT / "systemd" / "qcosd.service").read_text()
    assert not re.search(r"^PrivateUsers=", unit, re.MULTILINE), "SO_PEERCRED would give the same uid for all"


def test_the_unit_leaves_plugins_alive() -> None:
    unit = (ROOT / "systemd" / "qcosd.service").read_text().splitlines()
    for line in ("Type=notify", "KillMode=process", "RestartSec=0", "RuntimeDirectoryPreserve=restart"):
        assert line in unit
