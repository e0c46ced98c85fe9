# SPDX-License-Identifier: Apache-2.0
"""The simulated machine: a batch of shots of one program, block by block, as raw records.

Nothing leaves it but what a machine would say, and nothing comes in but decisions.  Where the shots of a batch decide
differently, frames and reference are split, and the branches run one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from qcos_plugins.stim_adapter.faults import Fault
from qcos_plugins.stim_adapter.frames import RECORD_BYTES, FlipBatch, Packed, pack, unpack
from qcos_plugins.stim_adapter.reference import CliffordReference, Reference
from qcos_plugins.stim_adapter.states import StateReference
from qcos_plugins.stim_adapter.steps import BlockPlan, Compiler, GaugeFix, Place, Prepare, Run, Steer, Strike, Turn

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Decision, Fragment, FragmentProgram
from qcosd.qec.stream import Block, child_path

BlockItem = tuple[str, Block, Packed]  # ("block", header, bits)
DecideItem = tuple[str, str, int, int]  # ("decide", path, k, shots)


@dataclass
class Branch:
    """The shots of one path, stopped between two fragments."""

    path: str
    fragment: Fragment
    shots: NDArray[np.int64]
    """Their numbers in the batch, increasing."""
    frames: FlipBatch
    reference: Reference
    steered: dict[int, dict[str, Packed]]
    """What steering has injected so far: patch -> {"X": shots with X_L, "Z": shots with Z_L}."""
    round: int = 0
    records: int = 0
    chosen: dict[int, Packed] = field(default_factory=dict)
    """Decision -> shots, of those that a hand-over waits for."""


class Machine:
    """A batch of ``shots`` shots; equal arguments and decisions give equal bits.

    ``noise``: the true rates of the device.  ``compiler``: that of an earlier batch of the same program and noise, to
    save its work.  ``reference``: what makes a reference, given shots and seed.  ``faults``: for shot 0, 1, ... those that
    are injected into it, on top of the noise.  ``steer``, ``gauge_fix``: see `Compiler`.  ``round_ns``: length of a round,
    ``t0_ns``: beginning of the first, for the time stamps.
    """

    def __init__(
        self,
        program: FragmentProgram,
        noise: Calibration,
        shots: int,
        seed: int,
        batch: int = 0,
        *,
        compiler: Compiler | None = None,
        reference: Callable[[int, int], Reference] | None = None,
        steer: bool = True,
        gauge_fix: bool = True,
        faults: Sequence[Iterable[Fault]] = (),
        round_ns: int = 1000,
        t0_ns: int = 0,
        record_bytes: int = RECORD_BYTES,
    ) -> None:
        if len(faults) > shots:
            raise ValueError(f"{len(faults)} sets of faults for {shots} shots")
        self.shots = shots
        self.seed = seed
        self.batch = batch
        self.round_ns = round_ns
        self.t0_ns = t0_ns
        self._compiler = compiler or Compiler(program, noise, steer=steer, gauge_fix=gauge_fix)
        self._reference = reference or (StateReference if needs_states(program) else CliffordReference)
        self._program = program
        self._record_bytes = record_bytes
        self._faults: dict[int, dict[Place, list[tuple[int, Fault]]]] = defaultdict(lambda: defaultdict(list))
        for shot, together in enumerate(faults):
            for fault in together:
                self._faults[fault.slot][fault.place].append((shot, fault))

    def run(self) -> Generator[BlockItem | DecideItem, Packed | None, None]:
        """Yields ("block", Block, bits) for each block, and ("decide", path, k, shots) at the end of a fragment that decides and
        before a hand-over by choice.

        Bits are uint8 (sum(m), ceil(shots/8)).  After "decide" the packed decisions of the path's shots must be sent.
        """
        waiting = [self._root()]
        while waiting:
            branch = waiting.pop()
            fragment = branch.fragment
            starts = self._compiler.blocks(fragment)
            for start, stop in pairwise([*starts, fragment.length]):
                for slot, k in fragment.choices:
                    if slot == start:
                        branch.chosen[k] = self._checked(
                            branch, k, (yield ("decide", branch.path, k, len(branch.shots)))
                        )
                last = fragment.decision is None and start == starts[-1]
                yield self._block(branch, start, stop, last)
            if (decision := fragment.decision) is not None:
                reported = yield ("decide", branch.path, decision.k, len(branch.shots))
                waiting += reversed(self._children(branch, decision, reported))

    def _root(self) -> Branch:
        return Branch(
            path="",
            fragment=self._program.fragments[0],
            shots=np.arange(self.shots),
            # A program without a single operation on hardware is a program too.
            frames=FlipBatch(
                self.shots, max(1, len(self._compiler.sites)), self._derived("", "frames"), self._record_bytes
            ),
            reference=self._reference(self.shots, self._derived("", "reference")),
            steered={},
        )

    def _derived(self, path: str, use: str) -> int:
        """A seed of 63 bits that depends on batch seed, path and use alone."""
        return int.from_bytes(sha256(f"{self.seed}/{path}/{use}".encode()).digest()[:8], "big") >> 1

    # ---- rounds

    def _block(self, branch: Branch, start: int, stop: int, last: bool) -> BlockItem:
        length = stop - start
        stops = (
            [(i, place) for i in range(length) for place in self._faults.get(branch.round + i, ())]
            if self._faults
            else ()
        )
        plan = self._compiler.block(branch.fragment, start, stops)
        bits = self._execute(branch, plan)
        header = Block(
            batch=self.batch,
            path=branch.path,
            shots=len(branch.shots),
            fragment=branch.fragment.index,
            slot=start,
            round=branch.round,
            rec_start=branch.records,
            m=plan.m,
            t_hw_ns=max(1, self.t0_ns + (branch.round + length) * self.round_ns),
            last=last,
        )
        branch.round += length
        branch.records += len(bits)
        return ("block", header, bits)

    def _execute(self, branch: Branch, plan: BlockPlan) -> Packed:
        frames, reference, steered = branch.frames, branch.reference, branch.steered
        for step in plan.steps:
            if type(step) is Run:  # nearly all of them are
                frames.do(step.circuit)
                continue
            match step:
                case Steer(product, patch, flips, pauli, retire):
                    wanted = reference.measure(*product[0]) if retire else reference.parity(product)
                    # The record would show zero, but for what steering has injected before.
                    flip = wanted.copy()
                    for name, basis in product:
                        flip ^= steered[name]["X" if basis == "Z" else "Z"]
                    frames.inject(flip, pauli)
                    if retire:
                        del steered[patch]
                    else:
                        steered[patch][flips] = steered[patch][flips] ^ flip
                case Prepare(patch, state, choice):
                    reference.prepare(patch, state, branch.chosen.get(choice))
                    steered[patch] = {basis: np.zeros_like(frames.mask) for basis in "XZ"}
                case GaugeFix(operator, pauli, choice):
                    frames.inject(frames.parity(operator) & branch.chosen.get(choice, frames.mask), pauli)
                case Turn(patch):
                    reference.hadamard(patch)
                    steered[patch] = {"X": steered[patch]["Z"], "Z": steered[patch]["X"]}
                case Strike(slot, place):
                    self._strike(branch, self._faults[branch.round + slot][place])
        return frames.read(plan.records)

    def _strike(self, branch: Branch, faults: list[tuple[int, Fault]]) -> None:
        sites = self._compiler.sites
        xs = np.zeros((len(sites), len(branch.shots)), np.bool_)
        zs = xs.copy()
        column = {int(shot): i for i, shot in enumerate(branch.shots)}
        for shot, fault in faults:
            if shot in column:
                for site, pauli in fault.paulis:
                    xs[sites[site], column[shot]] ^= pauli in "XY"
                    zs[sites[site], column[shot]] ^= pauli in "YZ"
        branch.frames.strike(xs, zs)

    # ---- decisions

    def _checked(self, branch: Branch, k: int, reported: Packed | None) -> Packed:
        if reported is None or np.shape(reported) != branch.frames.mask.shape:
            raise ValueError(f"path {branch.path!r}: decision {k} needs {branch.frames.mask.shape[0]} bytes")
        return np.asarray(reported, np.uint8) & branch.frames.mask

    def _children(self, branch: Branch, decision: Decision, reported: Packed | None) -> list[Branch]:
        """The branches that a decision leads to, value 0 first.

        The reported value counts, whatever the reference has: a reference differs from the state of a shot by a Pauli
        that is in the frames, and every branch is Clifford.
        """
        values = unpack(self._checked(branch, decision.k, reported), len(branch.shots))
        found = []
        for value in (0, 1):
            keep = values == value
            if not keep.any():
                continue
            path = child_path(branch.path, decision.k, value)
            shrink = np.flatnonzero(keep)
            found.append(
                Branch(
                    path=path,
                    fragment=self._program.fragments[decision.then if value else decision.otherwise],
                    shots=branch.shots[shrink],
                    frames=branch.frames.select(keep, self._derived(path, "frames")),
                    reference=branch.reference.select(keep, self._derived(path, "reference")),
                    steered={
                        patch: {basis: _chosen(mask, keep) for basis, mask in masks.items()}
                        for patch, masks in branch.steered.items()
                    },
                    round=branch.round,
                    records=branch.records,
                )
            )
        return found


def needs_states(program: FragmentProgram) -> bool:
    """Whether one tableau for all shots is too little of a reference: a |T> is handed over, or a state by choice."""
    parts = (part for fragment in program.fragments for slot in fragment.slots for part in slot.parts)
    return any(i.name in ("HANDOVER_T", "HANDOVER_YX") for part in parts for i in part.instructions)


def _chosen(mask: Packed, keep: NDArray[np.bool_]) -> Packed:
    return pack(unpack(mask, len(keep))[keep])
