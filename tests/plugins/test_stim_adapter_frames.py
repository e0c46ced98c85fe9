# SPDX-License-Identifier: Apache-2.0
"""The batch of Pauli frames: reading, injecting, splitting, moving to a fresh simulator; the logical reference."""

from __future__ import annotations

import numpy as np
import pytest
import stim
from qcos_plugins.stim_adapter.frames import FlipBatch, full_mask, pack, reader, unpack
from qcos_plugins.stim_adapter.reference import CliffordReference
from qcos_plugins.stim_adapter.steps import swaps


def circuit(text: str, *runs: int) -> stim.Circuit:
    return stim.Circuit("\n".join([text, *reader(list(runs))]))


def bits_of(batch: FlipBatch, text: str, *runs: int) -> np.ndarray:
    batch.do(circuit(text, *runs))
    return unpack(batch.read(sum(runs)), batch.shots)


@pytest.mark.parametrize("shots", [1, 7, 8, 13, 64, 70, 256, 1024])
def test_reading_gives_the_new_bits_and_clean_padding(shots: int) -> None:
    batch = FlipBatch(shots, 3, seed=1)
    for k in range(4):
        batch.do(circuit(f"R 0 1 2\nX_ERROR(1) {k % 3}\nM 0 1 2", 3))
        packed = batch.read(3)
        assert packed.shape == (3, (shots + 7) // 8)
        expected = np.zeros((3, shots), np.uint8)
        expected[k % 3] = 1
        assert (unpack(packed, shots) == expected).all()
        assert not (packed & ~full_mask(shots)).any()


def test_blocks_of_different_sizes_do_not_disturb_each_other() -> None:
    batch = FlipBatch(100, 4, seed=2)
    known = []
    for n in (2, 4, 1, 3, 4):
        once = bits_of(batch, "RX 0 1 2 3\nM " + " ".join(map(str, range(n))), n)
        assert (bits_of(batch, "M " + " ".join(map(str, range(n))), n) == once).all()
        known.append(once.mean())
    assert 0.4 < np.mean(known) < 0.6  # |+> read in Z is random


def test_reading_nothing() -> None:
    assert FlipBatch(9, 1, seed=0).read(0).shape == (0, 2)


def test_injected_paulis_follow_their_mask_and_are_stepped_over() -> None:
    batch = FlipBatch(13, 3, seed=3)
    mask = pack(np.arange(13) % 3 == 0)
    batch.do(stim.Circuit("R 0 1 2\nM 2"))
    batch.inject(mask, stim.Circuit("CX rec[-1] 0 rec[-1] 1"))
    bits = bits_of(batch, "M 1 0 2", 1, 3)
    assert (bits[1:3] == unpack(mask, 13)).all()
    assert not bits[[0, 3]].any()


def test_parity_of_the_frame_leaves_it_as_it_is() -> None:
    batch = FlipBatch(64, 2, seed=4)
    batch.do(stim.Circuit("RX 0\nR 1\nCX 0 1"))  # random stabilisers: X on both, Z on both
    operator = stim.Circuit("OBSERVABLE_INCLUDE(0) Z0")
    first = batch.parity(operator)
    assert 0 < unpack(first, 64).sum() < 64
    assert (batch.parity(operator) == first).all()
    assert (batch.parity(stim.Circuit("OBSERVABLE_INCLUDE(0) Z1")) == first).all()
    assert (bits_of(batch, "M 0 1", 2) == unpack(first, 64)).all()


@pytest.mark.parametrize("shots", [5, 300])
def test_frames_survive_the_move_to_a_fresh_simulator(shots: int) -> None:
    batch = FlipBatch(shots, 4, seed=5)
    z = bits_of(batch, "RX 0\nR 1\nCX 0 1\nR 2 3\nDEPOLARIZE1(0.5) 2 3\nM 0 2", 2)
    x = bits_of(batch, "RX 3\nZ_ERROR(0.5) 3\nMX 3", 1)
    batch.hand_over()
    assert (bits_of(batch, "M 1 2", 2) == z).all()
    assert (bits_of(batch, "MX 3", 1) == x).all()


def test_moving_after_every_block_changes_no_distribution() -> None:
    for record_bytes in (0, 1 << 30):
        batch = FlipBatch(20_000, 2, seed=6, record_bytes=record_bytes)
        first = bits_of(batch, "RX 0\nR 1\nCX 0 1\nX_ERROR(0.1) 1\nM 0 1", 2)
        second = bits_of(batch, "X_ERROR(0.2) 0\nM 0 1", 2)
        third = bits_of(batch, "MX 0", 1)
        for bits, p in ((first[0], 0.5), (first[0] ^ first[1], 0.1), (second[0] ^ first[0], 0.2), (third[0], 0.5)):
            assert abs(bits.mean() - p) < 5 * (p * (1 - p) / 20_000) ** 0.5
        assert (second[1] == first[1]).all()


def test_a_selection_carries_the_frames_of_its_shots() -> None:
    batch = FlipBatch(50, 2, seed=7)
    before = bits_of(batch, "RX 0\nR 1\nM 0", 1)[0]
    keep = before == 1
    child, rest = batch.select(keep, seed=8), batch.select(~keep, seed=9)
    assert (child.shots, rest.shots) == (keep.sum(), 50 - keep.sum())
    assert bits_of(child, "M 0", 1).all()
    assert not bits_of(rest, "M 0", 1).any()
    assert (bits_of(batch, "M 0", 1)[0] == before).all()


def test_equal_seeds_give_equal_bits() -> None:
    def bits(seed: int) -> bytes:
        batch = FlipBatch(64, 8, seed, record_bytes=100)
        return b"".join(bits_of(batch, "RX 0 1 2 3\nDEPOLARIZE1(0.1) 4\nM 0 1 2 3 4", 5).tobytes() for _ in range(5))

    assert bits(1) == bits(1) != bits(2)


def test_faults_strike_single_shots() -> None:
    batch = FlipBatch(3, 2, seed=1)
    batch.do(stim.Circuit("R 0 1"))
    xs = np.zeros((2, 3), bool)
    xs[1, 2] = True
    batch.strike(xs, np.zeros_like(xs))
    assert bits_of(batch, "M 0 1", 2).tolist() == [[0, 0, 0], [0, 0, 1]]


def test_swaps_do_what_a_permutation_says() -> None:
    rng = np.random.default_rng(1)
    sites = [(int(2 * k), 0) for k in range(9)]
    for _ in range(20):
        goals = [sites[i] for i in rng.permutation(9)]
        holds = {site: site for site in sites}
        pairs = swaps(tuple(s for move in zip(sites, goals, strict=True) for s in move))
        for a, b in zip(pairs[::2], pairs[1::2], strict=True):
            holds[a], holds[b] = holds[b], holds[a]
        assert [holds[goal] for goal in goals] == sites
    chain = ((0, 0), (2, 0), (2, 0), (4, 0))  # the last site is only moved to
    assert swaps(chain) == [(0, 0), (2, 0), (0, 0), (4, 0)]
    with pytest.raises(ValueError, match="twice"):
        swaps(((0, 0), (2, 0), (4, 0), (2, 0)))


def outcome(packed: np.ndarray) -> int:
    assert packed.tolist() in ([0, 0], [255, 1])
    return int(packed[1])


def test_reference_obeys_quantum_mechanics() -> None:
    seen = set()
    for seed in range(30):
        reference = CliffordReference(9, seed)
        reference.prepare(0, "X")
        reference.prepare(5, "Z")
        zz = outcome(reference.parity(((0, "Z"), (5, "Z"))))
        xx = outcome(reference.parity(((0, "X"), (5, "X"))))
        assert outcome(reference.parity(((0, "Z"), (5, "Z")))) == zz
        reference.hadamard(5)  # now Z0 X5 = zz and X0 Z5 = xx
        child = reference.select(np.arange(9) < 3, seed + 1)
        assert outcome(reference.measure(0, "X")) ^ outcome(reference.measure(5, "Z")) == xx
        assert child.parity(((0, "Z"), (5, "X"))).tolist() == [7 * zz]
        seen.add((zz, xx))
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_reference_phases() -> None:
    # S S = Z: two |Y> by ZZ merges turn |+> into |->, up to the signs of the measurements.
    for seed in range(10):
        reference = CliffordReference(9, seed)
        reference.prepare(0, "X")
        sign = 0
        for ancilla in (1, 2):
            reference.prepare(ancilla, "Y")
            sign ^= outcome(reference.parity(((0, "Z"), (ancilla, "Z"))))
            sign ^= outcome(reference.measure(ancilla, "X"))
        assert outcome(reference.measure(0, "X")) ^ sign == 1


def test_a_patch_that_is_born_again_starts_afresh() -> None:
    reference = CliffordReference(9, 1)
    reference.prepare(3, "X")
    reference.measure(3, "Z")
    reference.prepare(3, "Z")
    assert outcome(reference.measure(3, "Z")) == 0
