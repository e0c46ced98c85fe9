# SPDX-License-Identifier: Apache-2.0
"""The single process that `bench_throughput.py` compares with: it samples and decodes the same batches, and does nothing else.

Same circuits, same simulator, same windows, same decoders at the same weights, and with the same seeds the same counts; no
checks, no checkpoints, no frames but the one bit that is read, nobody to talk to.  It takes one line of JSON for each run,
{"how", "shots", "batches", "seed"}, and answers with {"seconds", "wrong"}: how often the bit was 1.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import stim
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.decoders import offer
from qcos_plugins.matching_tracker.disk import Disk, default_directory
from qcos_plugins.matching_tracker.frames import sign
from qcos_plugins.matching_tracker.model import matching_model
from qcos_plugins.matching_tracker.packed import Bits, mask, ones, transpose, width
from qcos_plugins.matching_tracker.plan import Plans, WindowPlan
from qcos_plugins.matching_tracker.window import Window, next_window
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.stim_adapter.frames import FlipBatch
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler, Run, Steer
from qcos_plugins.surface_code.prepare import prepare

from qcosd.core.batches import seed_of
from qcosd.qec.calibration import Calibration
from qcosd.qec.circuit import whole_circuit


class Commit(NamedTuple):
    """A window, and the rows of each instance's prediction that flip the bit: parities and the sign that is measured."""

    window: Window
    plan: WindowPlan
    flips: list[np.ndarray]


class Memory:
    """One patch that idles and is read out in Z: all that is needed for its batches, worked out."""

    def __init__(self, source: bytes, distance: int, noise: float, decoder: str) -> None:
        self.program = prepare(compile_source(source)[0], distance)
        self.rates = Calibration.uniform(noise)
        self.decoder = decoder
        (self.fragment,) = self.program.fragments
        self.plans = Plans(
            self.program, self.rates, decoder=decoder, templates=TemplateCache(disk=Disk(default_directory()))
        )
        self.compiler = Compiler(self.program, self.rates)
        contents = self.plans.contents(0)
        starts = self.compiler.blocks(self.fragment)
        self.steps = [self.compiler.block(self.fragment, start) for start in starts]
        self.blocks = [
            self.plans.block(contents[start - 1] if start else None, contents[start : start + distance])
            for start in starts
        ]
        self.commits: list[Commit] = []
        while (window := next_window(self._committed, distance, distance, len(contents))) is not None:
            before = contents[window.start - 1] if window.start else None
            plan = self.plans.window(before, contents[window.start : window.needs], window)
            self.commits.append(Commit(window, plan, [*map(self._flips, plan.instances)]))
        self.sizes = [len(content.detectors) for content in contents]
        self.keys = [(t, kind, x, y) for t, content in enumerate(contents) for x, y, kind in content.detectors]

    @property
    def _committed(self) -> int:
        return self.commits[-1].window.commit if self.commits else 0

    def _flips(self, instance: Any) -> np.ndarray:
        # Frames after the measurement do not matter: it is in the last window, and reads the sign through its parity.
        last = self._committed + 2 * self.program.distance >= self.fragment.length
        read = [] if last else [c for c, row in zip(instance.frame_columns, instance.frames, strict=True) if row == sign("Z")]  # fmt: skip
        return np.array([*instance.parity_columns, *read], np.intp)

    # ---- the same as the system

    def frames(self, shots: int, seed: int) -> int:
        """A batch from the machine's simulator."""
        machine = Machine(self.program, self.rates, shots, seed, compiler=self.compiler)
        frames = FlipBatch(shots, len(self.compiler.sites), machine._derived("", "frames"))
        none = np.zeros_like(frames.mask)
        last, zero = np.zeros((0, width(shots)), np.uint8), np.zeros((1, width(shots)), np.uint8)
        bit = none.copy()

        def detectors() -> Iterator[Bits]:
            nonlocal last, bit
            for steps, block in zip(self.steps, self.blocks, strict=True):
                for step in steps.steps:
                    if isinstance(step, Run):
                        frames.do(step.circuit)
                    elif isinstance(step, Steer):
                        frames.inject(none, step.pauli)
                records = frames.read(steps.records)
                found, parities = block.of(np.concatenate((last, records, zero)))
                last = records[block.records - block.m[-1] :]
                for parity in parities:
                    bit = bit ^ parity
                yield found

        flips = self._decoded(detectors(), shots)
        return ones((bit ^ flips) & mask(shots))

    def sampled(self, sampler: stim.CompiledDetectorSampler, order: np.ndarray, shots: int) -> int:
        """A batch from stim's sampler of the whole circuit, decoded in the same windows."""
        events, wrong = sampler.sample(shots, separate_observables=True)
        rows = np.packbits(events.T[order], axis=1, bitorder="little")
        blocks = np.split(rows, np.cumsum([block.detectors for block in self.blocks])[:-1])
        flips = self._decoded(iter(blocks), shots)
        return ones(np.packbits(wrong[:, 0], bitorder="little") ^ flips)

    def _decoded(self, blocks: Iterator[Bits], shots: int) -> Bits:
        """What decoding flips of the bit, window by window as the detectors come."""
        waiting: list[Bits] = []
        flips = np.zeros(width(shots), np.uint8)
        received = 0
        commits = deque(self.commits)
        for found, block in zip(blocks, self.blocks, strict=True):
            waiting.append(found)
            received += len(block.m)
            while commits and commits[0].window.needs <= received:
                plan, reads = commits[0].plan, commits.popleft().flips
                syndrome = np.concatenate(waiting)
                for instance, read in zip(plan.instances, reads, strict=True):
                    template = instance.template
                    own = transpose(syndrome.take(instance.rows, axis=0), shots)
                    predicted = template._compiled.decode_shots_bit_packed(bit_packed_detection_event_data=own)
                    predictions = transpose(predicted, template.predictions)
                    flips ^= np.bitwise_xor.reduce(predictions.take(read, axis=0), axis=0)
                    syndrome[instance.artifacts] ^= predictions[len(template.columns) :]
                waiting = [syndrome[plan.committed_rows :]]
        return flips

    def whole(self) -> tuple[stim.Circuit, np.ndarray]:
        """The circuit, and where each of the detectors, in the order of the windows, is in it."""
        whole = whole_circuit(self.program, self.rates.floored())
        place = {key: number for number, key in enumerate(whole.detectors)}
        return stim.Circuit(whole.text), np.array([place[key] for key in self.keys])


class Matched:
    """The system's decoder, for sinter."""

    def __init__(self, decoder: str) -> None:
        self._decoder = decoder

    def compile_decoder_for_dem(self, *, dem: stim.DetectorErrorModel) -> Any:
        return offer(self._decoder).make(dem)


def collected(memory: Memory, shots: int) -> float:
    """Seconds that sinter's one worker spends on as many shots, global decoding by the same decoder."""
    import sinter

    circuit, _ = memory.whole()
    model = matching_model(circuit.detector_error_model(decompose_errors=True), memory.decoder)
    (found,) = sinter.collect(
        num_workers=1,
        tasks=[sinter.Task(circuit=circuit, detector_error_model=model, decoder="matched")],
        max_shots=shots,
        custom_decoders={"matched": Matched(memory.decoder)},
    )
    assert found.shots == shots
    return float(found.seconds)


def main(path: str, distance: str, noise: str, decoder: str) -> None:
    memory = Memory(Path(path).read_bytes(), int(distance), float(noise), decoder)
    circuit, order = memory.whole()
    facts = {"rounds": memory.fragment.length, "windows": len(memory.commits), "detectors": len(memory.keys)}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        how, shots, batches, seed = (asked[key] for key in ("how", "shots", "batches", "seed"))
        wrong = 0
        sampler = circuit.compile_detector_sampler(seed=seed)
        began = time.perf_counter()
        if how == "sinter":
            seconds = collected(memory, shots * batches)
        else:
            for batch in range(batches):
                wrong += memory.frames(shots, seed_of(seed, batch)) if how == "frames" else memory.sampled(sampler, order, shots)  # fmt: skip
            seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
