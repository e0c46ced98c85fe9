# SPDX-License-Identifier: Apache-2.0
"""Whether decoding keeps up with a machine whose rounds leave on a clock, and what would.

Idle rounds make syndrome too: a machine that waits for its decoder gives it more to decode. So waiting helps latency and never
throughput, and a decoder that needs more time for a round than the round itself takes falls behind for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.decoders import offers
from qcos_plugins.matching_tracker.fault import Behind
from qcos_plugins.matching_tracker.packed import Bits, pack
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.template import Template

LEAST = 0.5
"""Seconds of decoding that are judged together: a hiccup of the system is no overload."""

PATIENCE = 2
"""Judgements in a row after which it is one."""

TRIED_SHOTS = 64
REPEATS = 5
LEAST_DISTANCE = 3


class Load:
    """What decoding has cost against the time that the rounds took, in virtual time nothing at all."""

    def __init__(self) -> None:
        self._busy = self._hardware = 0.0
        self._above = 0

    def add(self, busy: float, hardware: float) -> float | None:
        """Some rounds took ``hardware`` seconds on the machine's clock and ``busy`` seconds here.

        Returns the utilisation, busy / hardware, once it was above 1 for long enough.
        """
        self._busy += busy
        self._hardware += hardware
        if self._busy < LEAST:
            return None
        utilisation = self._busy / self._hardware
        self._above = self._above + 1 if utilisation > 1 else 0
        self._busy = self._hardware = 0.0
        return utilisation if self._above == PATIENCE else None


def what_fits(plans: Plans, utilisation: float, clock: Callable[[], float]) -> dict[str, Any]:
    """A counter-offer: ``decoder``, the fastest of those that need no admission, if it is fast enough, measured now on the
    largest window of the program; ``distance``, the largest below the present one, by the number of detectors in a round.

    Either is left out where nothing fits.
    """
    offer: dict[str, Any] = {}
    window = plans.largest_template()
    if window is not None:
        syndrome = random_syndrome(window)
        own = _cost(window, syndrome, clock)
        costs = {
            name: _cost(window.with_decoder(name), syndrome, clock)
            for name, other in offers().items()
            if other.trusted and name != plans.decoder
        }
        fastest = min(costs, key=lambda name: costs[name])
        if utilisation * costs[fastest] / own < 1:
            offer["decoder"] = fastest
    distance = plans.program.distance
    per_round = [(d, (d * d - 1) / (distance * distance - 1)) for d in range(distance - 2, LEAST_DISTANCE - 1, -2)]
    fitting = [d for d, share in per_round if utilisation * share < 1]
    if fitting:
        offer["distance"] = fitting[0]
    return offer


def behind(plans: Plans, utilisation: float, round_us: float, clock: Callable[[], float]) -> Behind:
    """The fault of a decoder that cannot keep up, with figures and a way out."""
    fits = what_fits(plans, utilisation, clock)
    ways = [f"--decoder {fits['decoder']}"] if "decoder" in fits else []
    ways += [f"about --distance {fits['distance']}"] if "distance" in fits else []
    ways.append(f"a round_time above {utilisation * round_us / 1e6:.3g}")
    return Behind(
        f"decoding takes {utilisation:.2f} times as long as the rounds do: {utilisation * round_us:.3g} us for one of"
        f" {round_us:.3g} us; what would fit: {', '.join(ways)}",
        utilisation=round(utilisation, 2),  # as the text says
        decode_us_per_round=round(utilisation * round_us, 3),
        round_us=round(round_us, 3),
        fits=fits,
    )


def random_syndrome(template: Template) -> Bits:
    """What errors at the template's rates would show: uint8 (detectors, TRIED_SHOTS / 8), from a fixed seed."""
    p = template.probabilities
    struck = np.random.default_rng(0).random((len(p), TRIED_SHOTS)) < p[:, None]
    syndrome = np.zeros((len(template.detectors), TRIED_SHOTS), np.uint8)
    company = template.structure.company
    occurring = struck.any(axis=1)[company.error]
    for error, edge in zip(company.error[occurring].tolist(), company.edge[occurring].tolist(), strict=True):
        for detector in template.structure.edges[edge].detectors:
            syndrome[detector] ^= struck[error]
    return pack(syndrome)


def _cost(template: Template, syndrome: Bits, clock: Callable[[], float]) -> float:
    times = []
    for _ in range(REPEATS):
        began = clock()
        template.decode(syndrome, TRIED_SHOTS)
        times.append(clock() - began)
    return min(times)
