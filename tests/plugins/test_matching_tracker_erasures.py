# SPDX-License-Identifier: Apache-2.0
"""Missing records: decoded as flips that are as likely as not, or said to be undecidable."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import sampled
from qcos_plugins.matching_tracker import erasures
from qcos_plugins.matching_tracker.packed import pack, unpack
from qcos_plugins.matching_tracker.plan import Instance, Plans
from qcos_plugins.matching_tracker.window import Window

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

Name = tuple[int, int, int, int]


class Whole:
    """A short program as one window."""

    def __init__(self, program: FragmentProgram, rates: Calibration, **options: object) -> None:
        self.plans = Plans(program, rates, **options)
        self.contents = self.plans.contents(0)
        total = len(self.contents)
        self.instances = self.plans.window(None, self.contents, Window(0, total, total)).instances
        self.names: list[Name] = [(t, *name) for t, c in enumerate(self.contents) for name in c.slot.records()]

    @property
    def instance(self) -> Instance:
        (only,) = self.instances
        return only

    def syndrome(self, records: np.ndarray) -> np.ndarray:
        """0/1 (shots, records) -> packed detectors."""
        rows = pack(np.ascontiguousarray(np.pad(records, ((0, 0), (0, 1))).T.astype(np.uint8)))
        return self.plans.block(None, self.contents).of(rows)[0]

    def parity(self, records: np.ndarray, instance: Instance, prediction: np.ndarray) -> np.ndarray:
        """The value that a memory's read-out gives, bool (shots,)."""
        content = self.contents[-1]
        rows = [self.names.index((len(self.contents) - 1 + dt, x, y, k)) for dt, x, y, k in content.event_records[-1]]
        raw = np.bitwise_xor.reduce(records[:, rows].astype(np.uint8), axis=1)
        return raw ^ unpack(prediction, len(records))[instance.parity_columns[-1]]


def memory(distance: int = 3, **options: object) -> Whole:
    return Whole(sampled.memory(distance, distance), Calibration.uniform(1e-3), **options)


def test_a_missing_record_may_have_any_value() -> None:
    whole = memory()
    shots = len(whole.names)
    records = sampled.record(whole.plans.program, 0.0, shots).records.copy()
    assert not whole.syndrome(records).any()
    records[np.arange(shots), np.arange(shots)] ^= True
    missing = [[name] for name in whole.names]
    found, undecidable = whole.instance.decode(whole.syndrome(records), shots, missing)
    assert undecidable is None
    assert not whole.parity(records, whole.instance, found).any()


def test_two_missing_records_are_within_what_distance_three_withstands() -> None:
    whole = memory()
    pairs = list(combinations(range(len(whole.names)), 2))[::3]
    records = sampled.record(whole.plans.program, 0.0, len(pairs)).records.copy()
    flips = np.random.default_rng(1).integers(0, 2, (len(pairs), 2)).astype(bool)
    for row, pair, flip in zip(records, pairs, flips, strict=True):
        row[list(pair)] ^= flip
    missing = [[whole.names[a], whole.names[b]] for a, b in pairs]
    found, undecidable = whole.instance.decode(whole.syndrome(records), len(pairs), missing)
    assert undecidable is None
    assert not whole.parity(records, whole.instance, found).any()


def test_a_missing_logical_operator_is_undecidable_and_nothing_less_is() -> None:
    whole = memory()
    end = len(whole.contents) - 1
    data = [name for name in whole.names if name[0] == end]
    across = [name for name in data if name[2] == 2]  # X on a row flips the outcome and no detector
    along = [name for name in data if name[1] == 2]
    everything = [name for name in whole.names if name[0] == 1]
    missing = [across, across[:2], along, [], everything, [*along, *across[1:]], data]
    syndrome = np.zeros((len(whole.instance.rows), 1), np.uint8)
    _, undecidable = whole.instance.decode(syndrome, len(missing), missing)
    assert undecidable is not None
    assert list(undecidable) == [True, False, False, False, False, False, True]


def test_a_parity_that_was_never_measured_is_undecidable() -> None:
    """Any one seam plaquette of a merge, in all its rounds."""
    whole = Whole(sampled.cnot(3, "Z"), Calibration.uniform(1e-3))
    instance = next(i for i in whole.instances if len(i.tags) > 1)
    seam = next(e for c in whole.contents for e in c.slot.events if type(e).__name__ == "Merge").records
    rounds_of = [[name for name in whole.names if name[1:] == place] for _, *rest in seam for place in [tuple(rest)]]
    rounds = next(rounds for rounds in rounds_of if len(rounds) == 3)  # the others belong to a patch
    syndrome = np.zeros((sum(len(c.detectors) for c in whole.contents), 1), np.uint8)
    _, undecidable = instance.decode(syndrome, 3, [rounds, rounds[:-1], rounds[1:]])
    assert undecidable is not None
    assert list(undecidable) == [True, False, False]


def test_records_of_other_regions_and_slots_change_nothing() -> None:
    whole = memory()
    recording = sampled.record(whole.plans.program, 2e-2, 100)
    syndrome = whole.syndrome(recording.records)
    expected, _ = whole.instance.decode(syndrome, 100)
    found, undecidable = whole.instance.decode(syndrome, 100, [[(0, 99, 99, 0), (-1, 1, 1, 0)]] * 100)
    assert undecidable is None
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("distance", [3, 5])
def test_trying_out_and_changing_the_graph_give_the_same(distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device where no two sites are equal, so that there are no ties to break."""
    program = sampled.memory(distance, distance)
    generator = np.random.default_rng(5)
    sites = {}
    for x in range(-1, 2 * distance):
        for y in range(-1, 2 * distance):
            sites[x, y] = {k: float(generator.uniform(1e-3, 2e-2)) for k in ("idle", "cx", "reset", "measure")}
    rates = Calibration(*[1e-3] * 6, sites=sites)
    whole = Whole(program, rates, decoder="pymatching")
    shots = 300
    syndrome = whole.syndrome(sampled.record(program, 1e-2, shots, seed=3).records)
    missing = [
        [whole.names[i] for i in generator.integers(0, len(whole.names), generator.integers(0, 6))]
        for _ in range(shots)
    ]
    results = []
    for edges_per_trial in (1e-9, 1e9):
        monkeypatch.setattr(erasures, "EDGES_PER_TRIAL", edges_per_trial)
        results.append(whole.instance.decode(syndrome, shots, missing))
    (tried, u), (changed, v) = results
    assert np.array_equal(tried, changed)
    assert (u is None and v is None) or np.array_equal(u, v)
    plain, _ = whole.instance.decode(syndrome, shots)
    assert not np.array_equal(plain, tried)
    again, _ = whole.instance.decode(syndrome, shots)
    assert np.array_equal(plain, again)


def test_the_outcome_of_a_shot_does_not_depend_on_the_shots_beside_it() -> None:
    """Ties are broken in the same way whether all shots of a batch lack these records or one does: a replay cuts batches anew."""
    whole = memory()
    shots = 120
    syndrome = whole.syndrome(sampled.record(whole.plans.program, 2e-2, shots, seed=3).records)
    generator = np.random.default_rng(2)
    for size in (1, 2, 3, 4):
        names = [whole.names[i] for i in generator.choice(len(whole.names), size, replace=False)]
        together, _ = whole.instance.decode(syndrome, shots, [names] * shots)
        for shot in range(shots):
            alone = [names if i == shot else [] for i in range(shots)]
            bits = unpack(whole.instance.decode(syndrome, shots, alone)[0], shots)[:, shot]
            assert np.array_equal(bits, unpack(together, shots)[:, shot]), (names, shot)


def test_knowing_what_is_missing_is_worth_more_than_a_guess() -> None:
    whole = memory()
    shots = 20_000
    recording = sampled.record(whole.plans.program, 2e-3, shots, seed=8)
    generator = np.random.default_rng(8)
    gone = generator.random(recording.records.shape) < 0.03
    records = recording.records ^ (gone & (generator.random(gone.shape) < 0.5))
    missing = [[whole.names[i] for i in np.flatnonzero(row)] for row in gone]
    known, undecidable = whole.instance.decode(whole.syndrome(records), shots, missing)
    decided = np.ones(shots, bool) if undecidable is None else ~undecidable
    assert decided.mean() > 0.98
    unknown, _ = whole.instance.decode(whole.syndrome(records), shots)
    with_knowledge = whole.parity(records, whole.instance, known)[decided].sum(dtype=int)
    without = whole.parity(records, whole.instance, unknown)[decided].sum(dtype=int)
    assert without - with_knowledge > 5 * np.sqrt(without + with_knowledge), (with_knowledge, without)
