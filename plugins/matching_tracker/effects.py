# SPDX-License-Identifier: Apache-2.0
"""What the edges of a whole path do to its classical bits, as the windows have settled it.

Two errors with the same detectors may differ in what they do to a bit, by the gauge of a patch that is newly born or split:
either is right, as long as one decoder does all.  A window lets one effect stand for all of an edge.  Whoever decodes the
whole path at once comes to the same random bits only with the same choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import stim
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.frames import APPLIED, DECODED, Ledger
from qcos_plugins.matching_tracker.model import component
from qcos_plugins.matching_tracker.packed import unpack, width
from qcos_plugins.matching_tracker.plan import Instance, Plans
from qcos_plugins.matching_tracker.window import Window

from qcosd.qec.circuit import DetectorKey
from qcosd.qec.fragment import Frame

Effects = dict[tuple[int, ...], tuple[int, ...]]
"""Detectors of an edge, sorted -> the bits that it flips."""


class _Step(NamedTuple):
    """A window of the path, the slots that it commits, and its instances with the number of their first column."""

    window: Window
    committed: Sequence[SlotContent]
    instances: Sequence[tuple[Instance, int]]


def settled_effects(plans: Plans, decisions: Sequence[int], detectors: Sequence[DetectorKey]) -> Effects:
    """Of every edge that a window of the path decides.  ``detectors``: of the whole circuit, in its order."""
    steps: list[_Step] = []
    columns = 0
    for window, before, contents in _windows(plans, decisions):
        placed = []
        for instance in plans.window(before, contents, window).instances:
            placed.append((instance, columns))
            columns += len(instance.template.columns)
        steps.append(_Step(window, contents[window.lead : window.commit - window.start], placed))
    flips = _flips(plans, steps, columns)
    number = {key: i for i, key in enumerate(detectors)}
    found: Effects = {}
    for step in steps:
        for instance, first in step.instances:
            (left, top), template = instance.origin, instance.template
            own = [number[step.window.start + d.slot, d.kind, d.x + left, d.y + top] for d in template.detectors]
            structure = template.structure
            # Edges of no error are there for missing records only.
            for edge in (structure.edges[number] for number in np.unique(structure.company.edge).tolist()):
                if edge.committed:
                    bits: set[int] = set()
                    for effect in edge.effects:
                        if effect < len(template.columns):  # those beyond are artifacts
                            bits ^= flips[first + effect]
                    found[tuple(sorted(own[d] for d in edge.detectors))] = tuple(sorted(bits))
    return found


def with_effects(model: stim.DetectorErrorModel, effects: Effects) -> stim.DetectorErrorModel:
    """A decomposed model, its edges with the effects given; those that are not among them stay as they are, and errors
    without detectors are left out."""
    lines = []
    for line in str(model.flattened()).split("\n"):
        head, _, targets = line.partition(") ")
        if not line.startswith("error("):
            lines.append(line)
            continue
        texts = []
        for piece in map(component, targets.split(" ^ ")):
            if piece.detectors:
                texts.append(piece._replace(observables=effects.get(piece.detectors, piece.observables)).text)
        if texts:
            lines.append(f"{head}) {' ^ '.join(texts)}")
    return stim.DetectorErrorModel("\n".join(lines))


def _windows(
    plans: Plans, decisions: Sequence[int]
) -> Iterator[tuple[Window, SlotContent | None, Sequence[SlotContent]]]:
    """Each window of the path, the slot before it, and its slots."""
    slots: list[SlotContent] = []
    committed = 0
    for fragment in plans.program.path(decisions):
        slots += plans.contents(fragment.index)
        for window in plans.windows(committed, len(slots) - fragment.length, fragment):
            yield window, slots[window.start - 1] if window.start else None, slots[window.start : window.needs]
            committed = window.commit


def _flips(plans: Plans, steps: Iterable[_Step], columns: int) -> list[set[int]]:
    """The bits that each column of each window flips in the end: a ledger whose shots are the columns."""
    ledger = Ledger(plans.frame_rows, plans.tags, plans.bits, max(1, columns))
    silent = np.zeros(width(ledger.shots), np.uint8)
    for window, committed, instances in steps:
        for instance, first in instances:
            for tag, column in zip(instance.tags, instance.parity_columns, strict=True):
                _flip(ledger.parities[tag, DECODED], first + column)
        for i, content in enumerate(committed):
            for event, names in zip(content.slot.events, content.event_records, strict=True):
                if not isinstance(event, Frame) or event.condition is None:
                    ledger.apply(event, window.first + i, window.commit, None if names is None else silent)
        for instance, first in instances:
            for row, column in zip(instance.frames, instance.frame_columns, strict=True):
                _flip(ledger.frames[row, DECODED], first + column)
    bits = unpack(ledger.bits[:, DECODED], ledger.shots) ^ unpack(ledger.bits[:, APPLIED], ledger.shots)
    return [set(np.flatnonzero(bits[:, shot]).tolist()) for shot in range(columns)]


def _flip(row: np.ndarray, shot: int) -> None:
    row[shot // 8] ^= 1 << shot % 8
