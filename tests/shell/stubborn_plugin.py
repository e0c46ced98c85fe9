# SPDX-License-Identifier: Apache-2.0
"""A plugin that does not end when it is asked to."""

from __future__ import annotations

from pathlib import Path

STUBBORN = """
import os, signal
for signum in (signal.SIGTERM, signal.SIGINT): signal.signal(signum, signal.SIG_IGN)
open(int(os.environ["QCOS_BOOT_FD"]), "rb").read()
print("settled", flush=True)
while True: signal.pause()
"""


def stubborn(directory: Path) -> Path:
    """A plugin that says nothing and does not end by itself."""
    (directory / "stubborn").mkdir()
    (directory / "stubborn" / "main.py").write_text(STUBBORN)
    (directory / "stubborn" / "plugin.toml").write_text(
        'name = "stubborn"\nversion = "1"\nargv = ["{python}", "{folder}/main.py"]\n[stop]\nask = 1000\nterm = 1000\n'
    )
    return directory
