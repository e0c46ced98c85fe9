# SPDX-License-Identifier: Apache-2.0
"""The algebra of a commit, worked out in advance, does what its events do one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
import sampled
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import PRIOR, TEMPLATES, prepared, run
from qcos_plugins.matching_tracker.algebra import Algebra, Happening
from qcos_plugins.matching_tracker.frames import DECODED, Ledger, NotFinal
from qcos_plugins.matching_tracker.packed import width

from qcosd.qec.fragment import Event, Frame, Hadamard, Handover, Init, Measure, Merge, Split
from qcosd.qec.geometry import Rect

RECT = Rect(0, 0, 4, 4)
ROWS = {7: 0, 3: 1, 5: 2}
TAGS, BITS, SHOTS, LENGTH, START = 9, 3, 19, 4, 12
OLD = (6, 7, 8)  # tags of parities that earlier commits have settled


def events(random: Random) -> list[Happening]:
    """Of a commit: in order of time, and no frame reads what is not final then."""
    fresh = list(range(OLD[0]))
    found: list[Happening] = []
    final = list(OLD)
    for slot in sorted(random.randrange(LENGTH) for _ in range(random.randrange(12))):
        first, second = random.sample(list(ROWS), 2)
        basis = random.choice("XZ")
        kind = random.choice([Init, Handover, Merge, Split, Measure, Hadamard, Frame, Frame])
        event: Event
        match kind.__name__:
            case "Init":
                event = Init(first, RECT, basis)
            case "Handover":
                event = Handover(first, RECT, "Y")
            case "Merge" if fresh:
                event = Merge(first, second, basis, fresh.pop(), (), ())
                final += [event.tag] * (slot + 2 <= LENGTH)
            case "Measure" if fresh:
                event = Measure(first, basis, fresh.pop(), (), random.randrange(-1, BITS))
                final += [event.tag] * (slot + 1 <= LENGTH)
            case "Hadamard":
                event = Hadamard(first, ())
            case "Split":
                event = Split(first, second, basis, ())
            case _:
                tags = tuple(random.sample(final, random.randrange(len(final))))
                event = Frame(first, random.choice("XYZ"), tags, random.randrange(2))
        found.append((slot, event, not isinstance(event, Init | Handover | Frame)))
    return found


def somewhere(numbers: np.random.Generator) -> Ledger:
    """A ledger in the middle of a path."""
    ledger = Ledger(ROWS, TAGS, BITS, SHOTS)
    ledger.values[:] = numbers.integers(0, 256, ledger.values.shape)
    ledger.settled = dict.fromkeys(OLD, START)
    return ledger


def compiled(happenings: Sequence[Happening], columns: int = 0, parities=(), frames=()) -> Algebra:
    return Algebra(ROWS, (TAGS, BITS), LENGTH, happenings, parities, frames, columns)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32))
def test_a_commit_at_once_is_one_event_after_the_other(seed: int) -> None:
    random, numbers = Random(seed), np.random.default_rng(seed)
    happenings = events(random)
    columns = random.randrange(8)
    parities = [(random.randrange(TAGS), column) for column in range(columns) if random.random() < 0.5]
    frames = [(random.randrange(2 * len(ROWS)), column) for column in range(columns) if random.random() < 0.5]
    raw = numbers.integers(0, 256, (sum(has for _, _, has in happenings), width(SHOTS)), np.uint8)
    predictions = numbers.integers(0, 256, (columns, width(SHOTS)), np.uint8)
    ledger = somewhere(np.random.default_rng(seed))
    expected = somewhere(np.random.default_rng(seed))

    for tag, column in parities:
        expected.parities[tag, DECODED] ^= predictions[column]
    rows = iter(raw)
    for slot, event, has in happenings:
        expected.apply(event, START + slot, START + LENGTH, next(rows) if has else None)
    for row, column in frames:
        expected.frames[row, DECODED] ^= predictions[column]

    assert compiled(happenings, columns, parities, frames).apply(ledger, START, raw, predictions)
    assert ledger.state() == expected.state()
    assert list(ledger.settled) == list(expected.settled)


NOTHING = np.zeros((0, width(SHOTS)), np.uint8)


def test_what_would_be_refused_event_by_event_is_left_alone() -> None:
    reads = compiled([(0, Frame(3, "X", (8,)), False)])
    measures = compiled([(0, Measure(3, "Z", 8, ()), True)])
    some = np.ones((1, width(SHOTS)), np.uint8)
    for algebra, raw, settled in (
        (reads, NOTHING, {}),
        (reads, NOTHING, {8: START + LENGTH + 1}),
        (measures, some, {8: 0}),
    ):
        ledger = somewhere(np.random.default_rng(0))
        ledger.settled = dict(settled)
        before = ledger.values.copy()
        assert not algebra.apply(ledger, START, raw, NOTHING)
        assert np.array_equal(ledger.values, before)
        assert ledger.settled == settled


def test_what_no_ledger_takes_has_no_algebra() -> None:
    merge = (LENGTH - 1, Merge(3, 5, "Z", 0, (), ()), True)
    with pytest.raises(NotFinal):
        compiled([merge, (LENGTH - 1, Frame(7, "X", (0,)), False)])
    with pytest.raises(ValueError, match="measured twice"):
        compiled([merge, merge])


TELEPORT = """OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg a[1]; creg b[1];
h q[0]; cx q[0],q[1]; measure q[0] -> a[0]; if (a == 1) x q[1]; measure q[1] -> b[0];
"""


def test_tracking_is_the_same_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    apply = Algebra.apply

    def tried(*arguments: object) -> bool:
        used.append(apply(*arguments))
        return used[-1]

    monkeypatch.setattr(Algebra, "apply", tried)
    recording = sampled.record(sampled.ghz(3, 3), 3e-3, 200, [[0, 1], [0, 2]])
    with_it = sampled.track(recording, templates=TEMPLATES)
    assert used
    assert all(used)
    conditional = run(prepared(TELEPORT), PRIOR, shots=200)
    monkeypatch.setattr(Algebra, "apply", lambda *arguments: False)
    without = sampled.track(recording, templates=TEMPLATES)
    assert np.array_equal(with_it.bits, without.bits)
    assert np.array_equal(with_it.undecoded, without.undecoded)
    assert np.array_equal(with_it.applied, without.applied)
    assert run(prepared(TELEPORT), PRIOR, shots=200).counts == conditional.counts
