# SPDX-License-Identifier: Apache-2.0
"""The private daemon of one command: whatever interrupts its start, no process is left."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qcosd.ctl.embedded import PrivateDaemon
from qcosd.ctl.interrupt import Interrupted, Interrupts


def test_a_signal_while_the_process_is_made_leaves_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupting(subprocess.Popen[bytes]):
        """The signal comes when the process is there and nobody has it yet."""

        def __init__(self, *words: Any, **how: Any) -> None:
            super().__init__(*words, **how)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupting)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Interrupts() as interrupts, pytest.raises(Interrupted), PrivateDaemon(interrupts):
        pytest.fail("the daemon was used")
    (process,) = started
    if process.returncode is None:
        process.kill()
        pytest.fail("the process was left running")
    assert list(tmp_path.iterdir()) == []
