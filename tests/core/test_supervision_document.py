# SPDX-License-Identifier: Apache-2.0
"""The table and the diagram of docs/SUPERVISION.md are those of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qcosd.core.lifecycle import State

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "SUPERVISION.md").read_text()


def test_table_and_diagram_are_up_to_date() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "state_diagram.py"), "--check"]
    outcome = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_every_state_is_explained() -> None:
    rows = [line.split("|")[1].strip() for line in TEXT.split("## Table")[0].splitlines() if line.startswith("| ")]
    assert sorted(rows[1:]) == sorted(State)
