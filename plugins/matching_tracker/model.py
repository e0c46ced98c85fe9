# SPDX-License-Identifier: Apache-2.0
"""Error models as matching wants them: which edges an error is made of, and how far one edge may vouch for another.

stim decomposes an error into edges that exist on their own.  Two properties of that hurt correlated matching, which
decodes once, makes the partners of the edges it used more likely, and decodes again:

- An X error on two qubits may come as two edges to the border although the edge between its detectors exists.
  `join` puts the pieces of one sector (the detectors of X or of Z errors, which no edge connects) together again.
- If the first pass chose the wrong one of two equally good edges, its partner becomes so cheap that the second pass
  prefers it plus a further error to the truth: at distance 3 single faults are mistaken, which plain matching never
  does.  `temper` bounds the conditional probability, so that two edges never cost less than any one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import stim


class Decoder(NamedTuple):
    """How to match.  ``correlated``: in two passes.  ``joined``: see `join`.  ``share``: see `temper`; 1 is no bound."""

    correlated: bool
    joined: bool = False
    share: float = 1.0


DECODERS = {
    "pymatching": Decoder(correlated=False),
    "pymatching-correlated": Decoder(correlated=True),
    # Largest share at which no single fault of the gates of distance 3 is mistaken: 0.15, for rates from 1e-4 to 1e-2.
    "pymatching-tempered": Decoder(correlated=True, joined=True, share=0.12),
}
DEFAULT_DECODER = "pymatching-tempered"


class Component(NamedTuple):
    """One edge of an error: sorted detectors, sorted observables."""

    detectors: tuple[int, ...]
    observables: tuple[int, ...]

    @property
    def text(self) -> str:
        return " ".join([f"D{d}" for d in self.detectors] + [f"L{o}" for o in self.observables])


Error = tuple[str, list[Component]]
Line = tuple[str, list[str]]
"""A probability, as stim writes it, and edges as text."""


class Errors:
    """The errors of a decomposed model without repetitions, again and again.

    Components without detectors are left out.  Errors are made while they are read: there are hundreds of thousands, and
    keeping them would cost more, in garbage collection, than reading them again.
    """

    def __init__(self, model: stim.DetectorErrorModel) -> None:
        self._lines = [line for line in str(model).split("\n") if line.startswith("error(")]
        self._known: dict[str, Component] = {}

    def __iter__(self) -> Iterator[Error]:
        known = self._known
        for line in self._lines:
            head, _, targets = line.partition(") ")
            components = []
            for text in targets.split(" ^ "):
                component = known.get(text)
                if component is None:
                    component = known[text] = _component(text)
                if component[0]:
                    components.append(component)
            yield head[6:], components

    def components(self) -> Iterable[Component]:
        """All that occur, each once; complete after a first iteration."""
        return self._known.values()


def _component(text: str) -> Component:
    detectors, observables = [], []
    for word in text.split():
        (detectors if word[0] == "D" else observables).append(int(word[1:]))
    return Component(tuple(sorted(detectors)), tuple(sorted(observables)))


def join(found: Errors) -> Iterator[Error]:
    """Each error with one component per sector, where that is an edge."""
    for _ in found:
        pass
    sector = _sectors(component.detectors for component in found.components())
    for p, components in found:
        yield p, _joined(components, sector) if len(components) > 1 else components


def _sectors(edges: Iterable[tuple[int, ...]]) -> dict[int, int]:
    """Each detector's sector, named by one of its detectors."""
    parent: dict[int, int] = {}

    def root(detector: int) -> int:
        parent.setdefault(detector, detector)
        while parent[detector] != detector:
            parent[detector] = parent[parent[detector]]
            detector = parent[detector]
        return detector

    for edge in set(edges):
        for detector in edge:
            parent[root(detector)] = root(edge[0])
    return {detector: root(detector) for detector in parent}


def _joined(components: list[Component], sector: dict[int, int]) -> list[Component]:
    groups: dict[int, list[Component]] = {}
    for component in components:
        groups.setdefault(sector[component.detectors[0]], []).append(component)
    result = []
    for group in groups.values():
        detectors: set[int] = set()
        observables: set[int] = set()
        for component in group:
            detectors ^= set(component.detectors)
            observables ^= set(component.observables)
        if 1 <= len(detectors) <= 2:
            result.append(Component(tuple(sorted(detectors)), tuple(sorted(observables))))
        else:
            result += group
    return result


def temper(found: Iterable[Line], share: float) -> Iterator[Line]:
    """The same probabilities of all edges, but given one edge, no other is more likely than ``share``: an error beyond that
    counts as independent errors of its edges."""
    lines = list(found)
    alone: dict[str, float] = {}
    together: dict[tuple[str, str], float] = {}
    for probability, edges in lines:
        p = float(probability)
        for edge in edges:
            alone[edge] = alone.get(edge, 0.0) + p
            for partner in edges:
                if partner is not edge:
                    together[edge, partner] = together.get((edge, partner), 0.0) + p
    for probability, edges in lines:
        highest = max((together[a, b] / alone[a] for a in edges for b in edges if a is not b), default=0.0)
        if highest <= share:
            yield probability, edges
            continue
        p = float(probability)
        kept = p * share / highest
        yield repr(kept), edges
        for edge in edges:
            yield repr(p - kept), [edge]


def written(lines: Iterable[Line], decoder: Decoder) -> list[str]:
    """The errors of the model that matching is to be given."""
    if decoder.share < 1:
        lines = temper(lines, decoder.share)
    if decoder.correlated:
        return [f"error({p}) {' ^ '.join(edges)}" for p, edges in lines]
    return [f"error({p}) {edge}" for p, edges in lines for edge in edges]


def declared(errors: list[str], detectors: int, observables: int) -> stim.DetectorErrorModel:
    """A model of this many detectors and observables, whether errors flip them or not."""
    ends = [f"detector D{detectors - 1}"] * (detectors > 0) + [f"logical_observable L{observables - 1}"] * (
        observables > 0
    )
    return stim.DetectorErrorModel("\n".join(errors + ends))


def matching_model(model: stim.DetectorErrorModel, decoder: str) -> stim.DetectorErrorModel:
    """A whole, decomposed error model as this decoder sees it: for global decoding."""
    settings = DECODERS[decoder]
    found = Errors(model.flattened())
    lines = ((p, [c.text for c in cs]) for p, cs in (join(found) if settings.joined else found) if cs)
    return declared(written(lines, settings), model.num_detectors, model.num_observables)
