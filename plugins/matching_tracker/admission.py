# SPDX-License-Identifier: Apache-2.0
"""Which decoders may be used: each is tried before it is used for the first time.

Those of other packages than the tracker's own are tried in a process of their own, with a time limit: what crashes, hangs or
overflows there is a reason to refuse a decoder, and not the death of the tracker.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from threading import Lock

from qcos_plugins.matching_tracker import decoders
from qcos_plugins.matching_tracker.decoders import Offer
from qcos_plugins.matching_tracker.probe import Verdict, probe

TIME_LIMIT = 120.0
"""Seconds for a decoder to pass: a fraction of a second for those of interest, most of it for starting Python."""

ADMITTED, REFUSED, NOT_INSTALLED = "admitted", "refused", "not installed"


@dataclass(frozen=True)
class Admission:
    """``state``: admitted, refused or not installed; ``reason``: why not, else "".  ``note``: what it
    does less than well.

    ``us_per_shot``: time for a window of distance 5; ``ratio``: the same relative to plain matching then and there.  Both
    are 0 for what is not admitted.
    """

    name: str
    package: str
    version: str
    state: str
    reason: str
    note: str
    us_per_shot: float
    ratio: float
    erasures: bool
    about: str


class Admissions:
    """Verdicts, found once.  ``module``: a module with ``offers()``, name -> `Offer`."""

    def __init__(self, module: str = decoders.__name__, time_limit: float = TIME_LIMIT) -> None:
        self._module = module
        self._time_limit = time_limit
        self._known: dict[tuple[str, str | None], Admission] = {}
        self._lock = Lock()  # a verdict takes seconds, and must not be sought twice

    def of(self, name: str, offer: Offer) -> Admission:
        """The verdict on one offer of the module."""
        with self._lock:
            version = offer.version
            key = (name, version)
            if key not in self._known:
                self._known[key] = self._found(name, offer, version)
            return self._known[key]

    def _found(self, name: str, offer: Offer, version: str | None) -> Admission:
        def admission(state: str, verdict: Verdict) -> Admission:
            return Admission(
                name, offer.package, version or "", state, **verdict, erasures=offer.erasures, about=offer.about
            )

        if version is None:
            return admission(NOT_INSTALLED, _failed(f"pip install {offer.package}"))
        verdict = probe(offer) if offer.trusted else self._tried(name)
        return admission(REFUSED if verdict["reason"] else ADMITTED, verdict)

    def _tried(self, name: str) -> Verdict:
        command = [sys.executable, "-m", "qcos_plugins.matching_tracker.probe", self._module, name]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=self._time_limit, check=False
            )
        except subprocess.TimeoutExpired:
            return _failed(f"it had not passed after {self._time_limit:g} s")
        try:
            verdict: Verdict = json.loads(done.stdout)
            return Verdict(**{field: verdict[field] for field in Verdict.__annotations__})
        except (ValueError, KeyError, TypeError):
            last = (done.stderr.strip().splitlines() or [""])[-1][:200]
            how = f"died of {signal.Signals(-done.returncode).name}" if done.returncode < 0 else "gave no verdict"
            return _failed(f"it {how} when it was tried" + (f": {last}" if last else ""))


def _failed(reason: str) -> Verdict:
    return Verdict(reason=reason, note="", us_per_shot=0.0, ratio=0.0)
