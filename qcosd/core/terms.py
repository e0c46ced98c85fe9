# SPDX-License-Identifier: Apache-2.0
"""The options of a job that the kernel itself reads. All others pass through to the plugins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from qcosd.core.events import Limits
from qcosd.core.given_plan import GivenPlan
from qcosd.core.requests import Refused
from qcosd.schema import UINT_MAX

MAX_BATCHES = 100_000
MAX_SHOTS = 10**12
MAX_WORKERS = 16
MAX_DIGITS = 20  # of an option that is passed as text


@dataclass(frozen=True, slots=True)
class Terms:
    """What was asked for."""

    shots: int
    seed: int
    batch: int  # shots of a batch, at most
    priority: int
    target: str
    deadline: float | None
    credit: int
    use: Mapping[str, str]  # service -> the one component that may offer it
    verify: bool  # whether artifacts wait for checks of them
    discard_budget: int  # discarded shots beyond which no batch is added
    workers: int = 0  # that may help a batch, at most
    shadow: bool = False  # whether somebody is to look on

    def table(self) -> dict[str, Any]:
        """The terms as the journal has them."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"use": dict(self.use)}

    @classmethod
    def of(cls, options: dict[str, Any], limits: Limits) -> Terms:
        """Read options. Raises Refused(bad_input) naming the option."""
        extra, given = options.get("set") or {}, GivenPlan.of(options.get("plan"))
        deadline = options.get("deadline")
        if deadline is not None and (type(deadline) not in (int, float) or not 0 < deadline <= limits.longest_deadline):
            raise Refused(
                "bad_input", f"deadline: {deadline!r} is not between 0 and {limits.longest_deadline:g} seconds"
            )
        target = options.get("target") or "counts"
        if type(target) is not str:
            raise Refused("bad_input", f"target: {target!r} is not the name of an artifact kind")
        if type(extra) is not dict:
            raise Refused("bad_input", "set: is not a map")
        use = options.get("use") or {}
        if type(use) is not dict or not all(type(name) is str for pair in use.items() for name in pair):
            raise Refused("bad_input", "use: is not a map from services to components")
        verify = options.get("verify", True)
        if type(verify) is not bool:
            raise Refused("bad_input", f"verify: {verify!r} is not true or false")
        shots = _integer("shots", options.get("shots"), 1000, 1, MAX_SHOTS)
        batch = _integer("batch", given.batch or options.get("batch"), limits.batch, 1, 10**9)
        if shots > batch * MAX_BATCHES:
            raise Refused("bad_input", f"batch: {shots} shots make more than {MAX_BATCHES} batches of {batch}")
        return cls(
            shots=shots,
            seed=_integer("seed", options.get("seed"), 0, 0, UINT_MAX),
            batch=batch,
            priority=_integer("priority", options.get("priority"), 0, -1000, 1000),
            target=target,
            deadline=deadline,
            credit=_integer("set.credit", extra.get("credit"), limits.credit, 1, limits.credit),
            use={**given.use, **use},
            verify=verify,
            workers=_integer("set.workers", extra.get("workers"), 0, 0, MAX_WORKERS),
            shadow=bool(extra.get("shadow")),
            discard_budget=_integer("discard_budget", options.get("discard_budget"), shots, 0, MAX_SHOTS),
        )


def _integer(name: str, value: Any, default: int, low: int, high: int) -> int:
    """An integer option; text of digits counts, as the command line passes it in ``set``."""
    if value is None:
        return default
    if type(value) is str and len(value) <= MAX_DIGITS and value.removeprefix("-").isdecimal():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise Refused("bad_input", f"{name}: {value!r} is not an integer from {low} to {high}")
    return value
