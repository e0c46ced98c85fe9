# SPDX-License-Identifier: Apache-2.0
"""The lab of tests and benchmarks: one at a time on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from pathlib import Path

import pytest

LAB = Path(__file__).parents[2] / "tools" / "lab" / "systemd"


@pytest.mark.skipif(os.geteuid() != 0, reason="a lab needs root")
def test_a_second_lab_waits_for_the_first_wherever_it_lives(tmp_path: Path) -> None:
    with open("/run/qcosd-lab.lock", "a") as first:
        with contextlib.suppress(BlockingIOError):  # a real one is up: as good
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        environment = os.environ | {"LAB_DIR": str(tmp_path / "lab"), "LAB_WAIT": "0"}
        second = subprocess.run([str(LAB), "up"], env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "another lab is up" in second.stderr
    assert not (tmp_path / "lab").exists()
