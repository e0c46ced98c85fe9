# SPDX-License-Identifier: Apache-2.0
"""Error models as matching wants them: which edges an error is made of, and how far one edge may vouch for another.

stim decomposes an error into edges that exist on their own.  Two properties of that hurt correlated matching, which
decodes once, makes the partners of the edges it used more likely, and decodes again:

- An X error on two qubits may come as two edges to the border although the edge between its detectors exists.
  `join` puts the pieces of one sector (the detectors of X or of Z errors, which no edge connects) together again.
- If the first pass chose the wrong one of two equally good edges, its partner becomes so cheap that the second pass
  prefers it plus a further error to the truth: at distance 3 single faults are mistaken, which plain matching never
  does.  `Company.bound` limits the conditional probability, so that two edges never cost less than any one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import stim

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]


class Decoder(NamedTuple):
    """How to match.  ``correlated``: in two passes.  ``joined``: see `join`.  ``share``: see `Company.bound`; 1 is no bound."""

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
                piece = known.get(text)
                if piece is None:
                    piece = known[text] = component(text)
                if piece[0]:
                    components.append(piece)
            yield head[6:], components

    def components(self) -> Iterable[Component]:
        """All that occur, each once; complete after a first iteration."""
        return self._known.values()


def component(text: str) -> Component:
    """Reads targets such as "D3 D7 L1"."""
    detectors, observables = [], []
    for word in text.split():
        (detectors if word[0] == "D" else observables).append(int(word[1:]))
    return Component(tuple(sorted(detectors)), tuple(sorted(observables)))


def join(found: Errors) -> Iterator[Error]:
    """Each error with one component per sector, where that is an edge."""
    for _ in found:
        pass
    sector = sectors(component.detectors for component in found.components())
    for p, components in found:
        yield p, joined(components, sector) if len(components) > 1 else components


def sectors(edges: Iterable[tuple[int, ...]]) -> dict[int, int]:
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


def joined(components: list[Component], sector: dict[int, int]) -> list[Component]:
    """One component per sector, where that is an edge."""
    groups: dict[int, list[Component]] = {}
    for component in components:
        groups.setdefault(sector[component.detectors[0]], []).append(component)
    result = []
    for group in groups.values():
        whole = united(group)
        result += group if whole is None else [whole]
    return result


def united(group: Sequence[Component]) -> Component | None:
    """The component that does what all of these do; None if it is no edge."""
    detectors: set[int] = set()
    observables: set[int] = set()
    for component in group:
        detectors ^= set(component.detectors)
        observables ^= set(component.observables)
    if 1 <= len(detectors) <= 2:
        return Component(tuple(sorted(detectors)), tuple(sorted(observables)))
    return None


class Company:
    """Which edges occur together in errors.

    Entry ``i`` says that edge ``edge[i]`` occurs in error ``error[i]``, errors in order; ``sizes``: how many edges an error has.
    """

    def __init__(self, edge: Numbers, sizes: Numbers, edges: int) -> None:
        self.edges = edges
        self.edge = edge
        self.sizes = sizes
        self.error = np.repeat(np.arange(len(sizes)), sizes)
        # All pairs of places within an error, by error, then by place.
        squares = np.where(sizes > 1, sizes**2, 0)
        error = np.repeat(np.arange(len(sizes)), squares)
        pair = np.arange(len(error)) - np.repeat(np.cumsum(squares) - squares, squares)
        begin, size = (np.cumsum(sizes) - sizes)[error], sizes[error]
        given, partner = edge[begin + pair // size], edge[begin + pair % size]
        apart = given != partner
        self._error, self._given = error[apart], given[apart]
        _, self._pair = np.unique(self._given * edges + partner[apart], return_inverse=True)

    @classmethod
    def of(cls, errors: Sequence[Sequence[int]], edges: int) -> Company:
        """``errors``: the edges of each, by number."""
        sizes = np.array([len(error) for error in errors], np.intp)
        return cls(np.fromiter((edge for error in errors for edge in error), np.intp), sizes, edges)

    def bound(self, p: Floats, share: float) -> Floats:
        """By how much each error's probability must shrink so that, given one edge, no other is more likely than ``share``.

        1 where it need not.  What is lost then counts as independent errors of its edges (see `written`), so that the
        probability of every edge stays.
        """
        alone = np.bincount(self.edge, p[self.error], self.edges)
        together = np.bincount(self._pair, p[self._error]) if len(self._pair) else np.zeros(0)
        highest = np.zeros(len(p))
        likely = alone[self._given] > 0
        np.maximum.at(highest, self._error[likely], together[self._pair[likely]] / alone[self._given[likely]])
        return share / np.maximum(highest, share)


def edge_probabilities(company: Company, p: Floats) -> Floats:
    """Of each edge, given those of the errors, as if the edges of an error were independent."""
    return _flipped(np.bincount(company.edge, np.log1p(-2 * p[company.error]), company.edges))


def _flipped(logarithms: Floats) -> Floats:
    """The probability of an odd number of independent events, from the sum of log(1 - 2p) over them."""
    return np.asarray(-np.expm1(logarithms) / 2)


def written(company: Company, texts: Sequence[str], p: Floats, decoder: Decoder) -> list[str]:
    """The errors of the model that a decoder is to be given.

    ``texts``: each edge; ``p``: the probability of each error, in [0, 0.5).
    """
    if decoder.correlated:
        # What is left of an error that must not join its edges, and errors of one edge, count edge by edge.
        together = p * company.bound(p, decoder.share)
        together[company.sizes == 1] = 0
        apart = (p - together)[company.error]
        single = _flipped(np.bincount(company.edge, np.log1p(-2 * apart), company.edges))
    else:
        together = np.zeros_like(p)
        single = edge_probabilities(company, p)
    lines = [f"error({q!r}) {text}" for q, text in zip(single.tolist(), texts, strict=True) if q > 0]
    chosen = np.flatnonzero(together > 0)
    ends = np.cumsum(company.sizes)
    words = [texts[edge] for edge in company.edge.tolist()]
    spans = zip(together[chosen].tolist(), (ends - company.sizes)[chosen].tolist(), ends[chosen].tolist(), strict=True)
    lines += [f"error({q!r}) {' ^ '.join(words[begin:end])}" for q, begin, end in spans]
    return lines


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
    number: dict[str, int] = {}
    errors, p = [], []
    for probability, components in join(found) if settings.joined else found:
        if components:
            errors.append([number.setdefault(c.text, len(number)) for c in components])
            p.append(float(probability))
    lines = written(Company.of(errors, len(number)), list(number), np.array(p), settings)
    return declared(lines, model.num_detectors, model.num_observables)
