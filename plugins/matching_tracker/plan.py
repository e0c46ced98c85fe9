# SPDX-License-Identifier: Apache-2.0
"""What to do with each window of a program, worked out once and shared by its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.content import Interner, SlotContent
from qcos_plugins.matching_tracker.model import DECODERS, DEFAULT_DECODER
from qcos_plugins.matching_tracker.packed import Bits
from qcos_plugins.matching_tracker.syndrome import SlotSyndrome
from qcos_plugins.matching_tracker.template import Template
from qcos_plugins.matching_tracker.window import RegionWindow, Window, region_windows

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Event, FragmentProgram, Frame, Measure, Merge

MAX_PLANS = 8192

Rows = np.ndarray  # intp


@dataclass(frozen=True)
class Instance:
    """A template at its place in a window.

    ``rows``: its detectors among those of the window's slots; ``artifacts``: the rows that it may flip.  Columns
    ``parity_columns`` of a prediction go to the tags ``tags``, columns ``frame_columns`` to the rows ``frames`` of the ledger.
    """

    template: Template
    rows: Rows
    artifacts: Rows
    parity_columns: Rows
    tags: Rows
    frame_columns: Rows
    frames: Rows

    def decode(self, syndrome: Bits, shots: int) -> Bits:
        """``syndrome``: uint8 (detectors of the window's slots, bytes).  Returns as `Template.decode`."""
        return self.template.decode(syndrome.take(self.rows, axis=0), shots)


@dataclass(frozen=True)
class WindowPlan:
    """``committed_rows``: how many detectors the committed slots have."""

    instances: tuple[Instance, ...]
    committed_rows: int


class Plans:
    """The plans of one program for one calibration, decoder and buffer.

    Nothing here depends on shots or on time.  ``buffer``: slots beyond the commit that a window sees, default the distance.
    Raises ValueError for a decoder or buffer that is not offered.
    """

    def __init__(
        self,
        program: FragmentProgram,
        calibration: Calibration,
        *,
        decoder: str = DEFAULT_DECODER,
        buffer: int | None = None,
        templates: TemplateCache | None = None,
    ) -> None:
        if decoder not in DECODERS:
            raise ValueError(f"unknown decoder {decoder!r}; known: {', '.join(sorted(DECODERS))}")
        self.program = program
        self.calibration = calibration
        self.decoder = decoder
        self.commit = program.distance
        self.buffer = program.distance if buffer is None else buffer
        self.templates = TemplateCache() if templates is None else templates
        if self.buffer < 0:
            raise ValueError(f"buffer {self.buffer} is negative")
        if self.buffer < program.distance and any(f.decision for f in program.fragments):
            raise ValueError(f"buffer {self.buffer} is below the distance {program.distance}: too little to decide on")
        self._rates = calibration.floored()
        interner = Interner(program.distance)
        self._contents = [[interner.content(slot) for slot in f.slots] for f in program.fragments]
        events = [event for f in program.fragments for slot in f.slots for event in slot.events]
        # Rows of the ledger in the order of the first event; patches that live on entry come from such an event.
        patches = dict.fromkeys(patch for event in events for patch in _patches(event))
        self.frame_rows = {patch: row for row, patch in enumerate(patches)}
        self.tags = 1 + max((e.tag for e in events if isinstance(e, Merge | Measure)), default=-1)
        self._syndromes: dict[tuple[int, int], SlotSyndrome] = {}
        self._windows: dict[tuple[object, ...], WindowPlan] = {}

    def contents(self, fragment: int) -> list[SlotContent]:
        """The slots of a fragment, in order of time."""
        distinct = self._contents[fragment]
        return [distinct[i] for i, repeats in self.program.fragments[fragment].timeline for _ in range(repeats)]

    def syndrome(self, before: SlotContent | None, content: SlotContent) -> SlotSyndrome:
        key = (-1 if before is None else before.number, content.number)
        if key not in self._syndromes:
            self._syndromes[key] = SlotSyndrome(before, content)
        return self._syndromes[key]

    def window(self, before: SlotContent | None, contents: Sequence[SlotContent], window: Window) -> WindowPlan:
        """``before``: the slot before the window, None at the start of a path; ``contents``: its slots and its ghost."""
        commit, end = window.commit - window.start, window.end - window.start
        key = (commit, end, -1 if before is None else before.number, *(c.number for c in contents))
        plan = self._windows.get(key)
        if plan is None:
            if len(self._windows) >= MAX_PLANS:
                self._windows.clear()
            plan = self._windows[key] = self._plan(before, contents, commit, end)
        return plan

    def _plan(self, before: SlotContent | None, contents: Sequence[SlotContent], commit: int, end: int) -> WindowPlan:
        keys = [(t, kind, x, y) for t, content in enumerate(contents) for x, y, kind in content.detectors]
        row_of = {key: row for row, key in enumerate(keys)}
        if len(row_of) != len(keys):
            raise ValueError("two detectors of one slot share plaquette and kind")
        instances = []
        for region in region_windows(before, contents):
            template = self.templates.template(
                region,
                commit,
                end,
                self.program.distance,
                self._rates,
                decoder=self.decoder,
            )
            if template.detectors and template.predictions:
                instances.append(self._place(template, region, row_of))
        return WindowPlan(tuple(instances), sum(len(c.detectors) for c in contents[:commit]))

    def _place(
        self, template: Template, region: RegionWindow, row_of: dict[tuple[int, int, int, int], int]
    ) -> Instance:
        left, top = region.origin
        parities, tags, frame_columns, frames = [], [], [], []
        for i, column in enumerate(template.columns):
            if column.kind == "parity":
                layer = region.before if column.layer < 0 else region.layers[column.layer]
                parities.append(i)
                tags.append(layer.events[column.index].placed.item.tag)
            else:
                frame_columns.append(i)
                frames.append(2 * self.frame_rows[region.lives[column.index].patch] + "XZ".index(column.kind))
        return Instance(
            template,
            _rows(row_of[d.slot, d.kind, d.x + left, d.y + top] for d in template.detectors),
            _rows(row_of[d.slot, d.kind, d.x + left, d.y + top] for d in template.artifacts),
            _rows(parities),
            _rows(tags),
            _rows(frame_columns),
            _rows(frames),
        )


def _rows(values: object) -> Rows:
    return np.fromiter(values, np.intp)


def _patches(event: Event) -> tuple[int, ...]:
    return (event.patch,) if isinstance(event, Frame) or not hasattr(event, "first") else (event.first, event.second)
