# SPDX-License-Identifier: Apache-2.0
"""Bus glue of foreign experiments: files become artifacts once, and these are played batch by batch."""

from __future__ import annotations

from typing import Any

import msgpack
from qcos_plugins.recorded_adapter.experiment_files import read
from qcos_plugins.recorded_adapter.experiment_play import blocks
from qcos_plugins.recorded_adapter.shot_files import FileFault

from qcosd.qec.experiment import Experiment, ExperimentShots
from qcosd.qec.versions import versions
from qcosd.sdk import Refused

kept: dict[tuple[str, str], tuple[Experiment, ExperimentShots]] = {}  # of the last job


def open_files(lease: Any) -> Any:
    """`experiment_files`, a msgpack map of file name to bytes, to `experiment` and `experiment_shots`."""
    try:
        files = msgpack.unpackb(lease.input("experiment_files"))
    except (ValueError, msgpack.UnpackException) as error:
        raise Refused("bad_input", f"experiment_files is no map of files: {error!r}") from error
    if not isinstance(files, dict) or not all(
        isinstance(name, str) and isinstance(data, bytes) for name, data in files.items()
    ):
        raise Refused("bad_input", "experiment_files is no map of file names to bytes")
    try:
        found = read(files, str(lease.options.get("source_name") or "experiment"), _window(lease))
    except FileFault as fault:
        raise Refused("bad_input", str(fault)) from fault
    return lease.result(
        outputs={"experiment": found.experiment.to_bytes(), "experiment_shots": found.shots.to_bytes()},
        facts={**found.facts, "versions": versions("stim", "numpy")},
    )


def play(lease: Any) -> Any:
    """One batch of an experiment, streamed as raw records.  Batch k begins k times the option `batch` into the recording."""
    key = (lease.inputs["experiment"], lease.inputs["experiment_shots"])
    if key not in kept:
        opened = (
            lease.read("experiment", Experiment.from_bytes),
            lease.read("experiment_shots", ExperimentShots.from_bytes),
        )
        kept.clear()
        kept[key] = opened
    experiment, held = kept[key]
    size = lease.options.get("batch")
    if type(size) is not int or size < lease.shots:
        raise Refused("bad_input", f"batch {size!r}: the size of the job's batches is needed to find a batch's shots")
    sent = 0
    try:
        for block, bits in blocks(experiment, held, lease.batch, lease.batch * size, lease.shots):
            lease.check()
            lease.stream.send(block.to_map(), bits)
            sent += 1
    except ValueError as error:
        raise Refused("bad_input", f"{experiment.name}: {error}") from error
    lease.stream.drain()
    return lease.result(facts={"blocks": sent})


def _window(lease: Any) -> int | None:
    text = (lease.options.get("set") or {}).get("window")
    if text is None:
        return None
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 9:
        text = int(text)
    if type(text) is not int or text < 0:
        raise Refused("bad_input", f"window {text!r}: a number of slots, 0 for all at once")
    return text
