# SPDX-License-Identifier: Apache-2.0
"""docs/PROTOCOL.md is what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_document_is_up_to_date() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "protocol_doc.py"), "--check"]
    outcome = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
