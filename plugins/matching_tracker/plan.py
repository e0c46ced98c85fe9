# SPDX-License-Identifier: Apache-2.0
"""What to do with each window of a program, worked out once and shared by its batches."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from qcos_plugins.matching_tracker.algebra import Algebra
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.content import Interner, SlotContent
from qcos_plugins.matching_tracker.decoders import offer
from qcos_plugins.matching_tracker.elements import Name
from qcos_plugins.matching_tracker.erasures import Lost
from qcos_plugins.matching_tracker.frames import NotFinal
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.packed import Bits, pack, select, unpack
from qcos_plugins.matching_tracker.structure import WrongFragments
from qcos_plugins.matching_tracker.syndrome import BlockSyndrome
from qcos_plugins.matching_tracker.template import Template
from qcos_plugins.matching_tracker.window import (
    PARALLEL,
    SCHEMES,
    SLIDING,
    RegionWindow,
    Window,
    region_windows,
    schedule,
)

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Choose, Event, Fragment, FragmentProgram, Frame, Measure, Merge, Split
from qcosd.qec.geometry import Coord
from qcosd.qec.versions import versions

MAX_PLANS = 8192
MAX_ROWS = 1 << 23  # of all blocks

Rows = np.ndarray  # intp
Missing = Sequence[Sequence[Name]]


@dataclass(frozen=True)
class Instance:
    """A template at its place in a window.

    ``origin``: what names of records are relative to in the template.  ``rows``: its detectors among those of the window's slots; ``artifacts``: the rows that it may flip.  Columns
    ``parity_columns`` of a prediction go to the tags ``tags``, columns ``frame_columns`` to the rows ``frames`` of the ledger.
    """

    template: Template
    origin: Coord
    rows: Rows
    artifacts: Rows
    parity_columns: Rows
    tags: Rows
    frame_columns: Rows
    frames: Rows

    def decode(
        self, syndrome: Bits, shots: int, missing: Missing | None = None
    ) -> tuple[Bits, npt.NDArray[np.bool_] | None]:
        """``syndrome``: uint8 (detectors of the window's slots, bytes).  ``missing``: the missing records of each shot, named
        (slot in the window, x, y, k), slot -1 being the one before; those of other regions may be among them.

        Returns predictions as `Template.decode`, and which shots are undecidable: bool (shots,), or None if none is.  Their
        predictions mean nothing.  Shots with missing records are decoded with plain matching, each set of them once.
        """
        own = syndrome.take(self.rows, axis=0)
        if missing is None or not any(missing):
            return self.template.decode(own, shots), None
        known: dict[tuple[Name, ...], Lost] = {}
        left, top = self.origin
        losses = []
        for names in missing:
            key = tuple(names)
            if key not in known:
                known[key] = self.template.lost([(t, x - left, y - top, k) for t, x, y, k in key])
            losses.append(known[key])
        undecidable = np.array([lost.undecidable for lost in losses])
        found = np.zeros((self.template.predictions, shots), np.uint8)
        touched = np.array([bool(lost.edges) for lost in losses]) & ~undecidable
        for chosen in (np.flatnonzero(~touched & ~undecidable), np.flatnonzero(touched)):
            if len(chosen):
                few = select(own, shots, chosen)
                if touched[chosen[0]]:
                    decoded = self.template.decode_lost(few, [losses[shot] for shot in chosen])
                else:
                    decoded = self.template.decode(few, len(chosen))
                found[:, chosen] = unpack(decoded, len(chosen))
        return pack(found), undecidable if undecidable.any() else None


class Artifacts(NamedTuple):
    """Detectors, and the rows of predictions that say whether they have been explained."""

    detectors: Rows
    rows: Rows


@dataclass(frozen=True)
class WindowPlan:
    """What a window comes to.

    ``rows``: how many detectors its slots have; ``committed_rows``, ``committed_parities``: how many, and how many events with
    records, the committed ones.  ``later``: detectors beyond the commit that it may have explained, counted from the end of the
    commit; ``earlier``: those of the first slot of an open window's commit, counted from there; each with their rows among the
    predictions of all instances, one after the other.  ``predictions``: how many these are.  ``algebra``: what the commit does to
    the ledger, None if that depends on classical bits.
    """

    instances: tuple[Instance, ...]
    rows: int
    committed_rows: int
    committed_parities: int
    later: Artifacts | None
    earlier: Artifacts | None
    predictions: int
    algebra: Algebra | None

    def decode(self, syndrome: Bits, shots: int) -> Bits:
        """uint8 (rows, bytes) packed along the shots -> uint8 (predictions, bytes), padding zero."""
        found = [instance.decode(syndrome, shots)[0] for instance in self.instances]
        return found[0] if len(found) == 1 else np.concatenate((syndrome[:0], *found))


class Plans:
    """The plans of one program for one calibration, decoder, buffer and scheme of windows.

    Nothing here depends on shots or on time.  ``buffer``: slots beyond the commit that a window sees, default the distance,
    and nothing else in a program that decides.  ``scheme``: one of `window.SCHEMES`.
    ``offset``: of the placement, from coordinates of the program to those of the device, which sites and couplers of the
    calibration are named in.  Raises ValueError for a decoder or buffer that is not offered.

    ``sha``: digest of the artifact that the program is, where it is known.
    ``erasures``: the decoder can decode shots with missing records.
    """

    def __init__(
        self,
        program: FragmentProgram,
        calibration: Calibration,
        *,
        decoder: str = DEFAULT_DECODER,
        buffer: int | None = None,
        scheme: str = SLIDING,
        templates: TemplateCache | None = None,
        offset: Coord = (0, 0),
        sha: str = "",
    ) -> None:
        self.erasures = offer(decoder).erasures
        self.program = program
        self.calibration = calibration
        self.decoder = decoder
        self.commit = program.distance
        self.buffer = program.distance if buffer is None else buffer
        self.templates = TemplateCache() if templates is None else templates
        self.scheme = scheme
        if scheme not in SCHEMES:
            raise ValueError(f"windows {scheme!r}: {' or '.join(SCHEMES)} expected")
        if self.buffer < 0:
            raise ValueError(f"buffer {self.buffer} is negative")
        if self.buffer == 0 and scheme == PARALLEL:
            raise ValueError("buffer 0 is too little for parallel windows: 1 at least")
        if self.buffer != program.distance and any(f.decision or f.choices for f in program.fragments):
            # The wait before a decision ends when a window with a buffer of d slots has committed what it reads.
            below = self.buffer < program.distance
            why = "below the distance {}: too little" if below else "above the distance {}: more than programs wait for"
            raise ValueError(f"buffer {self.buffer} is {why.format(program.distance)} to decide on")
        self._offset = offset
        self._rates = calibration.floored()
        interner = Interner(program.distance)
        self._contents = [[interner.content(slot) for slot in f.slots] for f in program.fragments]
        self._distinct = {content.number: content for contents in self._contents for content in contents}
        self._digest: bytes | None = None
        self._sha = sha
        events = [event for f in program.fragments for slot in f.slots for event in slot.events]
        # Rows of the ledger in the order of the first event; patches that live on entry come from such an event.
        patches = dict.fromkeys(patch for event in events for patch in _patches(event))
        self.frame_rows = {patch: row for row, patch in enumerate(patches)}
        self.tags = 1 + max((e.tag for e in events if isinstance(e, Merge | Measure)), default=-1)
        self.bits = program.bits + program.scratch
        self._blocks: dict[tuple[int, ...], BlockSyndrome] = {}
        # Of windows, at whatever rates: all instances, and the plan.
        self._known: dict[tuple[object, ...], tuple[Sequence[Instance], WindowPlan | None]] = {}
        self._windows: dict[tuple[object, ...], WindowPlan] = {}

    def reweighted(self, calibration: Calibration) -> Plans:
        """The same plans at other error rates.  They share everything that does not depend on rates."""
        other = copy(self)
        other.calibration = calibration
        other._rates = calibration.floored()
        other._windows = {}
        other._digest = None
        return other

    @property
    def digest(self) -> bytes:
        """16 bytes: equal for plans that do the same with the same records, here or in another process."""
        if self._digest is None:
            software = (offer(self.decoder).version, sorted(versions("pymatching", "stim", "numpy").items()))
            work = (self.calibration.id, self.decoder, self.buffer, self.scheme, self._offset, software)
            sha = self._sha or sha256(self.program.to_bytes()).hexdigest()
            self._digest = blake2b(repr((sha, work)).encode(), digest_size=16).digest()
        return self._digest

    def windows(self, start: int, begin: int, fragment: Fragment) -> tuple[Window, ...]:
        """The windows from slot ``start`` on, of a fragment that begins in slot ``begin``; its choices are decisions like that
        at its end."""
        stops = [(begin + slot, False) for slot in sorted({slot for slot, _ in fragment.choices})]
        found: tuple[Window, ...] = ()
        for stop, last in (*stops, (begin + fragment.length, fragment.decision is None)):
            found += schedule(self.scheme, start, self.commit, self.buffer, stop, last)
            start = found[-1].commit if found else start
        return found

    def content(self, number: int) -> SlotContent:
        """A distinct slot by its number."""
        return self._distinct[number]

    def contents(self, fragment: int) -> list[SlotContent]:
        """The slots of a fragment, in order of time."""
        distinct = self._contents[fragment]
        return [distinct[i] for i, repeats in self.program.fragments[fragment].timeline for _ in range(repeats)]

    def block(self, before: SlotContent | None, contents: Sequence[SlotContent]) -> BlockSyndrome:
        """``before``: the slot before these."""
        key = (-1 if before is None else before.number, *[content.number for content in contents])
        block = self._blocks.get(key)
        if block is None:
            block = BlockSyndrome(before, contents)
            if len(self._blocks) * block.size >= MAX_ROWS:  # as if all were as large as this one
                self._blocks.clear()
            self._blocks[key] = block
        return block

    def window(self, before: SlotContent | None, contents: Sequence[SlotContent], window: Window) -> WindowPlan:
        """``before``: the slot before the window, None at the start of a path; ``contents``: its slots and its ghost."""
        start, commit, end, _, lead, closed = window
        commit, end = commit - start, end - start
        key = (lead, commit, end, closed, -1 if before is None else before.number, *[c.number for c in contents])
        plan = self._windows.get(key)
        if plan is None:
            if len(self._windows) >= MAX_PLANS:
                self._windows.clear()
                self._known.clear()
            known, plan = self._known.get(key, ((), None))
            instances = self._plan(before, contents, commit, end, lead, closed, known)
            useful = tuple(i for i in instances if i.template.detectors and i.template.predictions)
            if plan is not None and _structures(instances) == _structures(known):
                plan = replace(plan, instances=useful)
            else:
                plan = self._whole(useful, contents, lead, commit)
            self._known[key] = instances, plan
            self._windows[key] = plan
        return plan

    def largest_template(self) -> Template | None:
        """Of the windows that were planned so far, the one with the most edges."""
        known = (instance.template for plan in self._windows.values() for instance in plan.instances)
        return max(known, key=lambda template: template.size, default=None)

    def _whole(
        self, useful: tuple[Instance, ...], contents: Sequence[SlotContent], lead: int, commit: int
    ) -> WindowPlan:
        committed = contents[lead:commit]
        artifacts, artifact_rows, begin = [], [], 0
        parities, frames = [], []
        for instance in useful:
            columns = len(instance.template.columns)
            artifacts.append(instance.artifacts)
            artifact_rows.append(np.arange(begin + columns, begin + instance.template.predictions))
            parities += zip(instance.tags.tolist(), (begin + instance.parity_columns).tolist(), strict=True)
            frames += zip(instance.frames.tolist(), (begin + instance.frame_columns).tolist(), strict=True)
            begin += instance.template.predictions
        detectors, rows = _joined(artifacts), _joined(artifact_rows)
        first, end = (sum(len(content.detectors) for content in contents[:slots]) for slots in (lead, commit))
        later = detectors >= end
        return WindowPlan(
            useful,
            sum(len(content.detectors) for content in contents),
            end - first,
            sum(content.parities for content in committed),
            Artifacts(detectors[later] - end, rows[later]) if later.any() else None,
            Artifacts(detectors[~later] - first, rows[~later]) if not later.all() else None,
            begin,
            self._algebra(committed, parities, frames, begin),
        )

    def _algebra(
        self,
        committed: Sequence[SlotContent],
        parities: Sequence[tuple[int, int]],
        frames: Sequence[tuple[int, int]],
        columns: int,
    ) -> Algebra | None:
        happenings = [
            (slot, event, names is not None)
            for slot, content in enumerate(committed)
            for event, names in zip(content.slot.events, content.event_records, strict=True)
        ]
        if any(isinstance(event, Frame | Choose) and event.condition is not None for _, event, _ in happenings):
            return None
        size = self.tags, self.bits
        try:
            return Algebra(self.frame_rows, size, len(committed), happenings, parities, frames, columns)
        except (NotFinal, ValueError):
            return None  # to be refused event by event, which says where

    def _plan(
        self,
        before: SlotContent | None,
        contents: Sequence[SlotContent],
        commit: int,
        end: int,
        lead: int,
        closed: bool,
        known: Sequence[Instance],
    ) -> list[Instance]:
        """``known``: the same at other rates."""
        keys = [(t, kind, x, y) for t, content in enumerate(contents) for x, y, kind in content.detectors]
        row_of = {key: row for row, key in enumerate(keys)}
        if len(row_of) != len(keys):
            raise WrongFragments("two detectors of one slot share plaquette and kind")
        instances = []
        for i, region in enumerate(region_windows(before, contents)):
            template = self.templates.template(
                region,
                commit,
                end,
                self.program.distance,
                self._rates,
                decoder=self.decoder,
                offset=self._offset,
                lead=lead,
                closed=closed,
            )
            if i < len(known) and known[i].template.structure is template.structure:
                instances.append(replace(known[i], template=template))
            else:
                instances.append(self._place(template, region, row_of))
        return instances

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
            region.origin,
            _rows(row_of[d.slot, d.kind, d.x + left, d.y + top] for d in template.detectors),
            _rows(row_of[d.slot, d.kind, d.x + left, d.y + top] for d in template.artifacts),
            _rows(parities),
            _rows(tags),
            _rows(frame_columns),
            _rows(frames),
        )


def _structures(instances: Sequence[Instance]) -> list[int]:
    return [id(instance.template.structure) for instance in instances]


def _joined(rows: Sequence[Rows]) -> Rows:
    return np.concatenate(rows) if rows else _rows(())


def _rows(values: object) -> Rows:
    return np.fromiter(values, np.intp)


def _patches(event: Event) -> tuple[int, ...]:
    if isinstance(event, Choose):
        return ()
    return (event.first, event.second) if isinstance(event, Merge | Split) else (event.patch,)
