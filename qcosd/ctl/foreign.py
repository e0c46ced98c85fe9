# SPDX-License-Identifier: Apache-2.0
"""Reads a directory with a published experiment in stim's formats.  What is in the files is for a plugin to find out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack

from qcosd.ctl import options as o
from qcosd.ctl.failure import bad_usage
from qcosd.ctl.recorded import PLAYER

CIRCUITS = ("circuit_noisy.stim", "circuit.stim", "circuit_ideal.stim", "model.dem", "circuit_detector_error_model.dem")
SHOTS = ("measurements", "detection_events", "obs_flips_actual", "sweep")
FILES = (*CIRCUITS, *(f"{stem}.{suffix}" for stem in SHOTS for suffix in ("b8", "01")))
MAX_BYTES = 512 * 1024 * 1024
"""Of all files: the artifact that they become is held in memory."""

SETTINGS = frozenset({"window", "credit"})
"""Keys of `--set` that a published experiment takes."""

ONLY_HERE = frozenset({"window"})
"""Those of them that a job which runs a program has no use for."""

_NOT_ITS = ("noise", "prior", "distance")
"""Options that say something of a machine, and nothing of an experiment that is over."""


def is_foreign(directory: Path) -> bool:
    has = {name for name in FILES if (directory / name).is_file()}
    return bool(has & set(CIRCUITS)) and any(name.startswith(("measurements", "detection_events")) for name in has)


def foreign(directory: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files, and the options of the job that makes an experiment of them.  Raises `Failure` (exit 2) and OSError."""
    paths = [directory / name for name in FILES if (directory / name).is_file()]
    sizes = {path: path.stat().st_size for path in paths}
    if sum(sizes.values()) > MAX_BYTES:
        largest = max(paths, key=sizes.__getitem__)
        raise bad_usage(
            f"{directory}: {sum(sizes.values())} bytes, at most {MAX_BYTES} are played at once "
            f"({largest} has {sizes[largest]}: give fewer shots)"
        )
    files = {path.name: path.read_bytes() for path in paths}
    options = o.JobOptions(shots=1, batch=o.MAX_BATCH, seed=0, target="experiment").validated(str(directory))
    options = {key: value for key, value in options.items() if key not in _NOT_ITS}
    return {"experiment_files": bytes(msgpack.packb(files))}, {**options, "use": {"hardware": PLAYER}}
