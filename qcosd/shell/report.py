# SPDX-License-Identifier: Apache-2.0
"""The daemon's own log: lines on stderr. Few of them: start, stop, and what misbehaves."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping

# The journal of systemd adds the time itself, and the notification tells it from a terminal.
_STAMPED = "JOURNAL_STREAM" not in os.environ


def report(text: str, fields: Mapping[str, object] | None = None) -> None:
    """Write one line. `fields` follow the text as key=value."""
    words = [text, *(f"{key}={value}" for key, value in (fields or {}).items())]
    line = " ".join(" ".join(words).split())  # one line, whatever a peer managed to put in
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S ") if _STAMPED else ""
    with contextlib.suppress(OSError, ValueError):  # nobody listens
        sys.stderr.write(f"{stamp}qcosd: {line}\n")
        sys.stderr.flush()
