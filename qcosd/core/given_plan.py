# SPDX-License-Identifier: Apache-2.0
"""The plan of an earlier run that a job is to follow: the option `plan`, a map as the job document has it.

What depended on time then is taken from there: the artifacts of the whole job, who made them, how large batches were.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qcosd.core.requests import Refused


@dataclass(frozen=True, slots=True)
class GivenPlan:
    """What is taken; without the option nothing is."""

    artifacts: dict[str, str] = field(default_factory=dict)  # kind -> digest
    providers: dict[str, str] = field(default_factory=dict)  # service.op -> component
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)  # service.op -> what it said of the artifacts
    batch: int = 0  # shots of a batch; 0 where there were none

    @classmethod
    def of(cls, table: object) -> GivenPlan:
        """Read the option. Raises Refused(bad_input) naming the key."""
        if table is None:
            return cls()
        if not isinstance(table, dict):
            raise Refused("bad_input", "plan: is not a map")
        maps = {key: table.get(key, {}) for key in ("artifacts", "providers", "facts")}
        for key, kind in (("artifacts", str), ("providers", str), ("facts", dict)):
            found = maps[key]
            if type(found) is not dict or not all(type(k) is str and type(v) is kind for k, v in found.items()):
                raise Refused("bad_input", f"plan: {key} is not a map as a job document has it")
        batch = table.get("batch", 0)
        if type(batch) is not int or batch < 0:
            raise Refused("bad_input", f"plan: batch is {batch!r}, not a number of shots")
        return cls(batch=batch, **maps)

    @property
    def use(self) -> dict[str, str]:
        """Service -> the component that did all of it. The same plan is that of nobody else."""
        found: dict[str, set[str]] = {}
        for name, component in self.providers.items():
            found.setdefault(name.partition(".")[0], set()).add(component)
        return {service: next(iter(those)) for service, those in found.items() if len(those) == 1}
