# SPDX-License-Identifier: Apache-2.0
"""Any rotation about z in Clifford gates and T gates, to a given error: gridsynth (Ross and Selinger, arXiv:1403.2975).

pygridsynth does it, in a process of its own: it takes a second to import and may take for ever for a small error.  That process
reads lines "error angle" and writes a line of gates for each.
"""

from __future__ import annotations

import importlib.util
import select
import subprocess
import sys
from typing import Final

from qcos_plugins.pytket_compile.rotations import error, folded

PACKAGE: Final = "pygridsynth"
SECONDS: Final = 30.0
"""For one angle."""
DIGITS: Final = 64
_NAMES: Final = {"H": "h", "S": "s", "T": "t", "X": "x"}  # W is a global phase


class CannotApproximate(Exception):
    """The message says why, and what to do about it."""


class Gridsynth:
    """``epsilon``: distance in operator norm that a rotation may have from what is made of it."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self._known: dict[float, tuple[str, ...]] = {}
        self._process: subprocess.Popen[str] | None = None

    def turn(self, angle: float) -> tuple[str, ...]:
        """Gates for Rz of an angle, first one first, folded.  Equal angles are worked out once.  Raises CannotApproximate."""
        if angle not in self._known:
            gates = folded(self._asked(angle))
            off = error(gates, angle)
            if off > self.epsilon:
                raise CannotApproximate(f"{PACKAGE} came within {off:.1e} only")
            self._known[angle] = gates
        return self._known[angle]

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()

    def _asked(self, angle: float) -> list[str]:
        process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        try:
            # A little better than asked for, so that rounding never makes it worse.
            process.stdin.write(f"{self.epsilon * 0.999!r} {angle!r}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], SECONDS)
            line = process.stdout.readline() if ready else None
        except BrokenPipeError:
            line = ""
        if not line:
            self.close()
            raise CannotApproximate(
                f"{PACKAGE} took more than {SECONDS:.0f} s (a larger epsilon is faster)"
                if line is None
                else f"{PACKAGE} died"
            )
        # As a product of matrices: what stands last is done first.
        return [_NAMES[letter] for letter in reversed(line.strip()) if letter in _NAMES]

    def _started(self) -> subprocess.Popen[str]:
        if importlib.util.find_spec(PACKAGE) is None:
            raise CannotApproximate(f"that takes {PACKAGE}, which is not installed: pip install 'qcosd[angles]'")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "qcos_plugins.pytket_compile.gridsynth"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self._process


def main() -> None:
    """The process."""
    import mpmath
    from pygridsynth.gridsynth import gridsynth_gates

    mpmath.mp.dps = DIGITS
    for line in sys.stdin:
        epsilon, angle = map(mpmath.mpmathify, line.split())
        sys.stdout.write(f"{gridsynth_gates(theta=angle, epsilon=epsilon)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
