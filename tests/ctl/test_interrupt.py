# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C: once in order, twice at once. The signals are real; the second one needs a process of its own to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from qcosd.ctl.interrupt import Interrupted, Interrupts


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_raises_and_the_handlers_are_given_back(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as caught, Interrupts():
        os.kill(os.getpid(), signum)
        signal.pause()
    assert caught.value.failure.code == 128 + signum
    assert signal.getsignal(signum) is before


def test_a_deferred_signal_is_raised_at_the_end_of_the_step() -> None:
    steps = []
    with pytest.raises(Interrupted), Interrupts() as interrupts:
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("finished")
        steps.append("never")
    assert steps == ["finished"]


def test_the_second_signal_runs_the_last_resort_and_exits_at_once() -> None:
    program = """
import os, signal
from qcosd.ctl.interrupt import Interrupted, Interrupts
with Interrupts() as interrupts:
    interrupts.last_resort = lambda: os.write(1, b"last resort")
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except Interrupted:
        os.write(1, b"cleaning up, ")
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
        os.write(1, b"never")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.stdout == b"cleaning up, last resort"
    assert done.stderr == b""
    assert done.returncode == 130


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
