# SPDX-License-Identifier: Apache-2.0
"""Reads a directory that `run --records` has written: the job that plays it again."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from qcosd.ctl.failure import Failure, bad_usage
from qcosd.ctl.options import MAX_BATCH, is_name
from qcosd.ctl.records import ARTIFACTS, FORMAT, ROWS, TEXTS, VERSION

RECORDING_VERSION = 1

_LEFT_OUT = frozenset({"target", "key", "deadline", "device", "discard_budget", "use", "source_name"})
"""Options of the job that are not those of the one that plays it."""

PLAYER = "recorded_adapter"

SETTINGS = frozenset({"credit", "buffer", "missing", "shadow", "windows", "workers"})
"""Keys of `--set` that change how records are decoded. All others are of components that made them."""


class _Shots(NamedTuple):
    """The shots of a path that one batch has."""

    batch: int
    calibration: str | None
    shots: list[int]


def is_recorded(directory: Path) -> bool:
    return (directory / "job.json").is_file()


def recorded(directory: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The artifacts and options of the job.  Raises `Failure` (exit 2) naming the file, and OSError."""
    job = _json(directory / "job.json")
    if job.get("format") != FORMAT or job.get("version") != VERSION:
        raise bad_usage(
            f"{directory / 'job.json'}: {job.get('format')} {job.get('version')}, {FORMAT} {VERSION} expected"
        )
    artifacts, asked = job.get("artifacts"), job.get("options")
    if not isinstance(artifacts, dict) or not isinstance(asked, dict) or not _counts(asked.get("batch", 1), least=1):
        raise bad_usage(f"{directory / 'job.json'}: it lacks the artifacts or the options of a job")
    inputs = {}
    for kind, name in ARTIFACTS.items():
        inputs[kind] = (directory / name).read_bytes()
        if hashlib.sha256(inputs[kind]).hexdigest() != artifacts.get(kind):
            raise bad_usage(f"{directory / name}: not the one of this job (its digest stands in job.json)")
    places = [place for place in sorted((directory / "paths").iterdir()) if place.is_dir()]
    _complete(directory, job, places)
    paths = [_path(place) for place in places]
    numbers, segments = _numbered([shots for _, shots in paths])
    total = sum(len(column) for column in numbers)
    _all_shots(directory, job, total)
    if not total:
        raise bad_usage(f"{directory}: no shot was accepted: nothing to play")
    rates = _rates(directory, segments)
    batch = _batch(asked.get("batch", MAX_BATCH), [first for first, _ in rates])
    recording = {
        "version": RECORDING_VERSION,
        "batch": batch,
        "paths": [{**entry, "shots": _uint32(column)} for (entry, _), column in zip(paths, numbers, strict=True)],
        "calibrations": rates,
    }
    inputs["recording"] = bytes(msgpack.packb(recording))
    options = {key: value for key, value in asked.items() if key not in _LEFT_OUT}
    options |= {"target": "counts", "shots": total, "batch": batch, "use": {"hardware": PLAYER}}
    # What is discarded cannot be had again: the recording has no more shots.
    options["discard_budget"] = 0
    options["source_name"] = str(directory)
    return inputs, options


def _complete(directory: Path, job: Mapping[str, Any], places: list[Path]) -> None:
    """Whether the files are there that job.json lists.  Their sizes come last: what else is wrong with them says more."""
    files = job.get("files")
    if files is None and _accepted(job) is not None:  # as they were written before job.json listed them
        return
    if files is None:
        raise bad_usage(f"{directory / 'job.json'}: it says neither which files nor how many shots there are")
    if not isinstance(files, dict) or not all(map(_counts, files.values())):
        raise bad_usage(f"{directory / 'job.json'}: files: a map of names to sizes expected")
    for name in files:
        place = directory / name
        if not place.parent.is_dir():
            raise bad_usage(f"{place.parent}: no such directory; job.json lists files in it")
        if not place.is_file():
            raise bad_usage(f"{place}: no such file; job.json lists it")
    for place in places:
        if f"paths/{place.name}/shots.json" not in files:
            raise bad_usage(f"{place}: not of this recording: job.json lists no files in it")


def _all_shots(directory: Path, job: Mapping[str, Any], total: int) -> None:
    """Whether there are as many shots as were accepted, and the files are as long as they were."""
    accepted = _accepted(job)
    if accepted is not None and accepted != total:
        raise bad_usage(f"{directory / 'paths'}: {total} shots; job.json says that {accepted} were accepted")
    for name, due in (job.get("files") or {}).items():
        if (size := (directory / name).stat().st_size) != due:
            raise bad_usage(f"{directory / name}: {size} bytes; job.json says {due}")


def _accepted(job: Mapping[str, Any]) -> int | None:
    result = job.get("result")
    accepted = result.get("shots_accepted") if isinstance(result, dict) else None
    return accepted if _counts(accepted) else None


def _path(place: Path) -> tuple[dict[str, Any], list[_Shots]]:
    """The files of a path as an entry of the recording, without its shots; and these."""
    about = _json(place / "shots.json")
    try:
        measurements, bits, decisions = about["measurements"], about["bits"], about["decisions"]
        rows = [_Shots(row["batch"], row["calibration"], row["shots"]) for row in about["batches"]]
        sound = _counts(measurements) and _counts(bits) and set(decisions) <= {0, 1} and all(map(_sound, rows))
    except (KeyError, TypeError) as error:
        raise bad_usage(f"{place / 'shots.json'}: not a list of shots: {error!r}") from None
    if not sound:
        raise bad_usage(f"{place / 'shots.json'}: not a list of shots: a number or a name is none")
    shots = sum(len(row.shots) for row in rows)
    rows_of = {**ROWS, "missing": "measurements"}
    for name, what in rows_of.items():
        path = place / f"{name}.b8"
        if name == "missing" and not path.exists():
            continue
        size, due = path.stat().st_size, shots * ((about[what] + 7) // 8)
        if size != due:
            raise bad_usage(f"{path}: {size} bytes; {shots} shots of {about[what]} {what} are {due}")
    for name in TEXTS:
        if not (place / name).is_file():
            raise bad_usage(f"{place / name}: no such file")
    missing = place / "missing.b8"
    entry = {
        "decisions": decisions,
        "measurements": measurements,
        "records": (place / "records.b8").read_bytes(),
        "missing": missing.read_bytes() if missing.exists() else b"",
    }
    return entry, rows


def _sound(row: _Shots) -> bool:
    named = row.calibration is None or (isinstance(row.calibration, str) and is_name(row.calibration))
    return named and _counts(row.batch) and isinstance(row.shots, list) and all(map(_counts, row.shots))


def _counts(value: object, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _numbered(paths: Iterable[list[_Shots]]) -> tuple[list[list[int]], list[tuple[int, str | None]]]:
    """All shots in the order of their batches, numbered from 0: those of each path; and where another calibration begins."""
    columns: list[list[int]] = []
    keys: list[tuple[int, int, int, int]] = []  # batch, shot, path, row
    calibration: dict[int, str | None] = {}
    for number, rows in enumerate(paths):
        row = 0
        columns.append([0] * sum(len(part.shots) for part in rows))
        for part in rows:
            calibration[part.batch] = part.calibration
            for shot in part.shots:
                keys.append((part.batch, shot, number, row))
                row += 1
    if len({key[:2] for key in keys}) != len(keys):
        raise bad_usage("shots.json: a shot stands in two places")
    segments: list[tuple[int, str | None]] = []
    for position, (batch, _, number, row) in enumerate(sorted(keys)):
        columns[number][row] = position
        if not segments or segments[-1][1] != calibration[batch]:
            segments.append((position, calibration[batch]))
    return columns, segments


def _rates(directory: Path, segments: list[tuple[int, str | None]]) -> list[tuple[int, bytes]]:
    """First shot and calibration of each part; empty bytes are that of the job."""
    found = []
    for first, name in segments:
        data = b""
        if name is not None:
            path = directory / "calibrations" / f"{name}.bin"
            data = path.read_bytes()
            if not hashlib.sha256(data).hexdigest().startswith(name):
                raise bad_usage(f"{path}: not the calibration of that name")
        found.append((first, data))
    return found


def _batch(asked: int, starts: list[int]) -> int:
    """Shots of a batch: a batch has one calibration, so each must begin with one."""
    step = gcd(*starts)
    if not step:
        return min(asked, MAX_BATCH)
    return next(size for size in range(min(step, MAX_BATCH), 0, -1) if step % size == 0)


def _uint32(values: list[int]) -> bytes:
    data = array("I", values)
    if data.itemsize != 4:
        raise Failure(1, "this machine has no integers of 32 bits")
    return data.tobytes()


def _json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise bad_usage(f"{path}: no such file") from None
    except ValueError as error:
        raise bad_usage(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise bad_usage(f"{path}: a map expected")
    return document
