# SPDX-License-Identifier: Apache-2.0
"""Written records for tests: batches of the loopback machine, written to a directory by the command line's own code, and
played again into a tracker."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from loopback import TEMPLATES, Run
from qcos_plugins.matching_tracker.circuits import written_circuits
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.recording import recorded
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.recorded_adapter.player import Player
from qcos_plugins.recorded_adapter.recording import Recording

from qcosd.ctl.records import RecordsDirectory
from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Awaits, Batch, Control, Said
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Decided

PLACED = Placement.of("default", (0, 0), [])


@dataclass
class Store:
    """Artifacts by digest: what a client of the daemon sees of its store."""

    data: dict[str, bytes] = field(default_factory=dict)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.data[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        return self.data[digest]


def write(
    directory: Path,
    program: FragmentProgram,
    batches: Sequence[Run],
    prior: Calibration,
    *,
    calibrations: Sequence[bytes] = (),
    decoder: str = DEFAULT_DECODER,
    batch: int = 256,
) -> None:
    """``calibrations``: of each batch, empty for that of the job."""
    store = Store()
    plans = Plans(program, prior, decoder=decoder, templates=TEMPLATES)
    outputs = []
    for index, run in enumerate(batches):
        rates = calibrations[index] if calibrations else b""
        outputs.append(store.put(recorded(run.outcomes, index, rates)))
    artifacts = {"fragments": program.to_bytes(), "calibration": prior.to_bytes(), "placement": PLACED.to_bytes()}
    job = {
        "artifacts": {kind: store.put(data) for kind, data in artifacts.items()},
        "outputs": outputs,
        "options": {"batch": batch, "decoder": decoder, "target": "records", "shots": 0, "set": {}, "deadline": 9.0},
    }
    with RecordsDirectory(str(directory)) as made:
        paths = made.collect(store, job)
        made.finish(written_circuits(plans, PLACED.offset, paths), job, {"decoder": decoder})


def play(
    recording: bytes, program: FragmentProgram, prior: Calibration, *, decoder: str = DEFAULT_DECODER
) -> list[Outcomes]:
    """What the tracker makes of each batch of a recording."""
    player = Player(Recording.from_bytes(recording))
    size, total = (player.recording.batch, player.recording.shots)
    plans = Plans(program, prior, decoder=decoder, templates=TEMPLATES)
    control = Control(player)
    found = []
    for index, first in enumerate(range(0, total, size)):
        shots = min(size, total - first)
        control.prepare(program, PLACED)
        control.arm(Batch(index, shots, 0))
        control.start(0)
        tracker = Tracker(program, prior, shots, plans=plans, batch=index)
        decided: dict[str, bytes] = {}
        while (item := control.next()) is not None:
            if isinstance(item, Awaits):
                control.decide(item.path, item.k, decided.pop(item.path))
                continue
            assert isinstance(item, Said)
            header = msgpack.unpackb(msgpack.packb(item.header.to_map()))
            for reply in take(tracker, header, item.frames):
                if isinstance(reply, tuple) and isinstance(reply[0], Decided):
                    decided[reply[0].path] = reply[1].tobytes()
        found.append(tracker.outcomes())
    return found


def total(outcomes: Sequence[Outcomes], name: str = "counts") -> Counter[str]:
    """The counts of all batches together."""
    found: Counter[str] = Counter()
    for each in outcomes:
        found.update(getattr(each, name))
    return found


def job_of(directory: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Inputs and options of the job that plays a directory."""
    from qcosd.ctl.replay import replay_of

    played = replay_of(str(directory))
    return dict(played.inputs), played.options
