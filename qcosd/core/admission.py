# SPDX-License-Identifier: Apache-2.0
"""What a request for a job must name rightly before the job is accepted: stored inputs, settings, components, kinds of artifact.

What plugins there are is known: their manifests are read when the daemon starts. So a name that nobody knows is a typing error and
is refused; whoever is known and down may come back, and its job is held until then.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from qcosd.core.given_plan import GivenPlan
from qcosd.core.requests import Refused

if TYPE_CHECKING:
    from qcosd.core.kernel import Kernel


def check(kernel: Kernel, inputs: dict[str, str], options: dict[str, Any]) -> GivenPlan:
    """The plan that the job is to follow, if any. Raises Refused, which says what there is."""
    for kind, sha in inputs.items():
        if not kernel.blobs.has(sha):
            raise Refused("no_such_artifact", f"the input `{kind}` was not stored before: {sha}")
    _refuse_unknown_settings(kernel, options.get("set"))
    _refuse_unknown_components(kernel, options.get("use"), "use")
    given = _given_plan(kernel, options.get("plan"))
    _refuse_the_impossible(kernel, inputs, options, given)
    return given


def _given_plan(kernel: Kernel, table: object) -> GivenPlan:
    """The plan that a job is to follow: whom and what it names must be there. Raises Refused."""
    given = GivenPlan.of(table)
    _refuse_unknown_components(kernel, given.use, "plan")
    for kind, sha in given.artifacts.items():
        if not kernel.blobs.has(sha):
            text = f"the artifact `{kind}` of the plan is not kept any more: run the job without its plan"
            raise Refused("no_such_artifact", text)
    return given


def _refuse_the_impossible(kernel: Kernel, inputs: dict[str, str], options: dict[str, Any], given: GivenPlan) -> None:
    """What no manifest leads to would be held for ever: they are read when the daemon starts. Who is merely down may come back."""
    target = options.get("target") or "counts"
    have = frozenset([*inputs, *given.artifacts])
    if type(target) is not str or not (cause := kernel.scheduler.planner.obstacle(have, target)):
        return
    operations = [each for c in kernel.supervisor.components.values() for each in c.manifest.operations]
    made = {kind for operation in operations for kind in operation.produces}
    taken = {kind for operation in operations for kind in operation.consumes}
    for option, name, known, nobody in (
        ("target", target, made, "nobody makes"),
        *(("as", kind, taken, "nobody takes") for kind in sorted(inputs)),
    ):
        if name not in known:
            meant = "".join(f", did you mean {near!r}?" for near in get_close_matches(name, sorted(known), 1))
            raise Refused("bad_input", f"{option}: {nobody} {name!r}{meant or ';'} known: {', '.join(sorted(known))}")
    raise Refused("bad_input", f"target: {target!r} cannot be made of {', '.join(sorted(have)) or 'nothing'}: {cause}")


def _refuse_unknown_settings(kernel: Kernel, settings: object) -> None:
    """A setting that nobody reads is a typing error, and the job would not do what was asked."""
    components = kernel.supervisor.components.values()
    known = {"credit", "shadow", "workers"}.union(*(component.manifest.settings for component in components))
    unknown = sorted(str(key) for key in settings if key not in known) if isinstance(settings, dict) else []
    if unknown:
        raise Refused("bad_input", f"set: no plugin knows {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _refuse_unknown_components(kernel: Kernel, use: object, option: str) -> None:
    """A component that is asked for must exist and offer the service."""
    offers: dict[str, list[str]] = {}
    for name, component in kernel.supervisor.components.items():
        for service in component.manifest.services:
            offers.setdefault(service, []).append(name)
    for service, name in use.items() if isinstance(use, dict) else ():
        if service not in offers:
            raise Refused("bad_input", f"{option}: nobody offers {service!r}; services: {', '.join(sorted(offers))}")
        if name not in offers[service]:
            known = ", ".join(sorted(offers[service]))
            raise Refused("bad_input", f"{option}: {name!r} does not offer {service}; components that do: {known}")
