# SPDX-License-Identifier: Apache-2.0
"""Where decisions fall within windows, and how a batch falls into paths: padding, seeds, single shots."""

from __future__ import annotations

from collections import Counter
from itertools import count, product

import numpy as np
import pytest
from loopback import PRIOR, TEMPLATES, Run, prepared, run
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.stim_adapter.faults import faults_of
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Decision, FragmentProgram
from qcosd.qec.program import Condition
from qcosd.qec.stream import Decided

SHOTS = 64


def decides_at(d: int, before: int, wait: int, after: int, *, merged: bool) -> FragmentProgram:
    """Shots part by a random bit c[0] that is read, or merged into a parity, ``before`` slots after the beginning.

    ``merged``: the bit is a ZZ of |+> and |0>, put on a third patch, which is read ``wait`` >= 2 slots later; c[1] is then
    the first qubit itself, which must agree with it.  In the branch, ``after`` slots in, |0> of patch 2 is turned, turned
    back, flipped and merged with a fresh |0>: c[2] = c[3] = c[0].
    """
    tags = count()
    b = Builder(d, tags=tags)
    b.init(0, (0, 0), "X")
    b.init(2, (0, 1), "Z")
    if merged:
        b.init(1, (2, 0), "Z")
        b.init(3, (4, 0), "Z")
    b.idle(before)
    if merged:
        zz = b.join(0, 1)
        b.idle(max(wait, 2))
        b.frame(3, "X", (zz,))
        b.measure(3, "Z", 0)
        b.idle(max(d - wait, 1))
        b.split(0, 1)
        b.idle(1)
        b.measure(0, "Z", 1)
        b.measure(1, "Z")
    else:
        b.measure(0, "Z", 0)
        b.idle(wait)
    # The window that commits the last read-out ends at the next multiple of d, and has a buffer of d.
    b.until(-(-(b.slot + 1) // d) * d + d)
    fragments = [b.fragment(0, Decision(0, Condition((0,), "==", 1), 1, 2))]
    for index in (1, 2):
        b = Builder(d, {2: (0, 1)}, tags)
        b.idle(after)
        if index == 2:
            b.hadamard(2)
            b.idle(1)
            b.frame(2, "Z", constant=1)
            b.idle(d)
            b.hadamard(2)
            b.init(4, (2, 1), "Z")
            b.idle(1)
            parity = b.merge(2, 4)
            b.idle(2)
            b.init(5, (4, 1), "Z")
            b.idle(1)
            b.frame(5, "X", (parity,))
            b.measure(5, "Z", 3)
            b.measure(4, "Z")
        else:
            b.idle(1)
        b.measure(2, "Z", 2)
        fragments.append(b.fragment(index))
    return FragmentProgram(d, 0, (("c", 4),), tuple(fragments), (5, 2))


def wanted(done: Run, merged: bool) -> np.ndarray:
    """The bits that must be, given c[0]."""
    c0 = done.outcomes.bits[0]
    return np.array([c0, c0 if merged else 0 * c0, c0, c0])


@pytest.mark.parametrize("merged", [False, True], ids=["measure", "merge"])
@pytest.mark.parametrize("d", [3, pytest.param(5, marks=pytest.mark.long)])
def test_a_decision_may_fall_anywhere_in_a_window(d: int, merged: bool) -> None:
    seen: Counter[int] = Counter()
    for before, after in product(range(1, d + 1), range(d + 1)):
        if d > 3 and after != 2 * before % d:  # every pair at d = 3, every phase of both at d = 5
            continue
        wait = (before + after) % d  # idles of any length behind it
        done = run(decides_at(d, before, wait, after, merged=merged), shots=SHOTS, seed=before * 10 + after)
        assert (done.outcomes.bits == wanted(done, merged)).all(), (before, after)
        assert set(done.outcomes.paths) == {"k0=0", "k0=1"}
        seen.update(done.outcomes.bits[0].tolist())
    assert abs(seen[1] - seen[0]) < 5 * sum(seen.values()) ** 0.5


@pytest.mark.long
@pytest.mark.parametrize("merged", [False, True], ids=["measure", "merge"])
@pytest.mark.parametrize("before", [1, 2, 3])
def test_no_single_fault_before_a_decision_contradicts_it(before: int, merged: bool) -> None:
    """A fault may not part what the shot decides from what it reads, at any phase of the window."""
    program = decides_at(3, before, 2, before % 3, merged=merged)
    faults = faults_of(program, [1])
    noticed = 0
    for start in range(0, len(faults), 4096):
        some = faults[start : start + 4096]
        # A shot takes its fault where its path has that place: half of them do on the second fragment.
        done = run(program, shots=len(some), seed=start, faults=some)
        ends = (done.outcomes.bits == wanted(done, merged)).all(0)
        assert [some[i] for i in np.flatnonzero(~ends)] == []
        noticed += done.outcomes.detection_events
    assert noticed > 1000


# ---- how a batch falls into paths

NESTED = """
OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg a[1]; creg b[1]; creg m[3];
h q[0]; measure q[0] -> a[0]; h q[0]; measure q[0] -> b[0];
if(a==1) if(b==1) h q[1]; if(b==0) cx q[1],q[2]; h q[1]; s q[1]; h q[1]; measure q -> m;
"""


@pytest.mark.parametrize("shots", [1, 7, 8, 9, 65])
@pytest.mark.parametrize("noise", [0, 3e-3])
def test_padding_is_masked_in_every_path(shots: int, noise: float) -> None:
    """The tracker refuses padding that is not zero, so a run that ends shows that there was none."""
    program = prepared(NESTED)
    rates = Calibration.uniform(noise)
    single = False
    for seed in range(12):
        done = run(program, rates, shots=shots, seed=seed)
        assert sum(done.outcomes.paths.values()) == shots
        sizes = {block.path: block.shots for block in done.blocks}
        assert {name: sizes[name] for name in done.outcomes.paths} == done.outcomes.paths
        single |= shots > 1 and 1 in sizes.values()
        if noise == 0:
            a, b, read = done.outcomes.bits[0], done.outcomes.bits[1], done.outcomes.bits[2:]
            assert (read[0] == b).all()  # q[0] is left as it was read
            assert (read[2] == 0).all()
            assert set(done.outcomes.bits[:2].sum(0)) <= {0, 1, 2} and len(a) == shots
    if shots in (7, 8, 9):
        assert single  # a branch with one shot was among them


def run_in_order(program: FragmentProgram, shots: int, seed: int, noise: Calibration, *, last_first: bool) -> dict:
    """Raw blocks of each path; ``last_first`` makes the machine run the branches of a decision in the opposite order."""

    class Backwards(Machine):
        def _children(self, *arguments):  # type: ignore[no-untyped-def]
            return super()._children(*arguments)[::-1]

    machine = (Backwards if last_first else Machine)(program, noise, shots, seed)
    tracker = Tracker(program, PRIOR, shots, templates=TEMPLATES)
    raw: dict[str, list[bytes]] = {}
    decided: dict[str, np.ndarray] = {}
    order: list[str] = []
    stream = machine.run()
    item = next(stream, None)
    while item is not None:
        answer = None
        if item[0] == "block":
            _, block, bits = item[:3]
            raw.setdefault(block.path, []).append(bits.tobytes())
            order += [block.path] if block.path not in order else []
            for reply in tracker.receive(block, bits):
                if isinstance(reply, tuple) and isinstance(reply[0], Decided):
                    decided[reply[0].path] = reply[1]
        else:
            answer = decided.pop(item[1])
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    return {"raw": raw, "order": order, "bits": tracker.outcomes().bits}


@pytest.mark.parametrize("noise", [0, 3e-3])
def test_a_path_has_the_same_bits_whatever_runs_before_it(noise: float) -> None:
    program = prepared(NESTED)
    first, second = (
        run_in_order(program, 65, 5, Calibration.uniform(noise), last_first=last_first) for last_first in (False, True)
    )
    assert first["order"] != second["order"] and sorted(first["order"]) == sorted(second["order"])
    assert len(first["order"]) > 6
    assert first["raw"] == second["raw"]
    assert (first["bits"] == second["bits"]).all()


def test_paths_and_seeds_give_different_bits() -> None:
    program = prepared(NESTED)
    runs = [run(program, Calibration.uniform(3e-3), shots=65, seed=seed, records=True).records for seed in (1, 1, 2)]
    assert all((runs[0][path] == runs[1][path]).all() for path in runs[0])
    assert any(
        path not in runs[2] or runs[2][path].shape != r.shape or (runs[2][path] != r).any()
        for path, r in runs[0].items()
    )
