# SPDX-License-Identifier: Apache-2.0
"""`run --records DIR`: what a job leaves behind for other decoders, written batch by batch.

The directory is made aside, under a name of its own, and takes its place when it is complete: nothing half-written stays.
README.txt in it says what the files are (`recording_readme`).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgpack

from qcosd.ctl.failure import FAILED, Failure, bad_usage
from qcosd.ctl.recording_readme import readme

if TYPE_CHECKING:
    from qcosd.sdk.client import BlockingClient

FORMAT = "qcos.records"
VERSION = 1

ARTIFACTS = {"fragments": "program.bin", "calibration": "calibration.bin", "placement": "placement.bin"}
"""Kind of artifact -> the file that it becomes."""

ROWS = {"records": "measurements", "outcomes": "bits", "undecoded": "bits", "frames": "bits"}
"""Files with a row for each shot, without their suffix -> the number in shots.json that says how many bits a row has."""

TEXTS = ("circuit.stim", "model.dem")
"""The other files that every path has, beside shots.json."""

_CHUNK = 1 << 20


def path_name(decisions: list[int]) -> str:
    """Name of the directory of a path."""
    return "".join(map(str, decisions)) or "all"


class _Path:
    """The files of one path, which grow with every batch."""

    def __init__(self, directory: Path, entry: Mapping[str, Any]) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.decisions = list(entry["decisions"])
        self.bits = int(entry["bits"])
        self.shots = 0
        self._width = (entry["measurements"] + 7) // 8
        head = {"decisions": self.decisions, "measurements": entry["measurements"], "bits": entry["bits"]}
        self._append("shots.json", json.dumps(head)[:-1].encode() + b', "batches": [')
        self._separator = b"\n"

    def add(self, batch: int, calibration: str | None, entry: Mapping[str, Any]) -> None:
        for name in ROWS:
            self._append(f"{name}.b8", entry[name])
        missing = self.directory / "missing.b8"
        if entry["missing"] and not missing.exists():
            self._append("missing.b8", b"")
            self._zeros(self.shots)  # of the shots before
        if entry["missing"]:
            self._append("missing.b8", entry["missing"])
        elif missing.exists():
            self._zeros(len(entry["shots"]))
        self.shots += len(entry["shots"])
        row = {"batch": batch, "calibration": calibration, "shots": entry["shots"], "discarded": entry["discarded"]}
        self._append("shots.json", self._separator + json.dumps(row).encode())
        self._separator = b",\n"

    def finish(self, circuit: str, model: str) -> None:
        self._append("circuit.stim", circuit.encode())
        self._append("model.dem", model.encode())
        self._append("shots.json", b"\n]}\n")

    def _zeros(self, shots: int) -> None:
        left = shots * self._width
        while left:
            part = min(left, _CHUNK)
            self._append("missing.b8", bytes(part))
            left -= part

    def _append(self, name: str, data: bytes) -> None:
        with (self.directory / name).open("ab") as file:
            file.write(data)


class RecordsDirectory:
    """A directory of records in the making.  Use as a context manager; without `write` nothing stays.

    Raises `Failure` (exit 2) at once where ``target`` holds something or cannot be made.
    """

    def __init__(self, target: str) -> None:
        self.target = Path(target)
        self._aside: Path | None = None
        self._paths: dict[str, _Path] = {}
        try:
            if self.target.is_symlink() or (self.target.exists() and not self.target.is_dir()):
                raise bad_usage(f"--records {target}: is no directory")
            if self.target.is_dir() and any(self.target.iterdir()):
                raise bad_usage(f"--records {target}: is not empty; name a new directory")
            aside = self.target.absolute().parent / f".{self.target.name}.{secrets.token_hex(4)}.part"
            aside.mkdir(parents=True)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise bad_usage(f"--records {target}: cannot be written: {reason}") from None
        self._aside = aside

    def __enter__(self) -> RecordsDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._aside is not None:
            shutil.rmtree(self._aside, ignore_errors=True)

    def collect(self, client: BlockingClient, job: Mapping[str, Any]) -> bytes:
        """Fetch and write what the batches of a job that is done have left; the artifact `paths`, of the paths found."""
        for kind, name in ARTIFACTS.items():
            self._write(name, client.get(job["artifacts"][kind]))
        for digest in job["outputs"]:
            self._add(msgpack.unpackb(client.get(digest)))
        return bytes(msgpack.packb([path.decisions for path in self._paths.values()]))

    def finish(self, circuits: bytes, job: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Write what remains, and put the directory into its place.  ``circuits``: the artifact made of the `paths`."""
        for path, text in zip(self._paths.values(), msgpack.unpackb(circuits), strict=True):
            path.finish(text["circuit"], text["model"])
        document = {
            "format": FORMAT,
            "version": VERSION,
            "artifacts": {kind: job["artifacts"][kind] for kind in ARTIFACTS},
            "options": job["options"],
            "result": result,
            "files": {
                path.relative_to(self._place).as_posix(): path.stat().st_size
                for path in sorted(self._place.rglob("*"))
                if path.is_file()
            },
        }
        self._write("job.json", json.dumps(document, indent=2).encode() + b"\n")
        bits = max((path.bits for path in self._paths.values()), default=0)
        self._write("README.txt", readme(str(result["decoder"]), bits).encode())
        assert self._aside is not None, "finished once"
        try:
            os.rename(self._aside, self.target)  # over an empty directory too
        except OSError as error:
            raise Failure(FAILED, f"--records {self.target}: {error.strerror}") from None
        self._aside = None

    def _add(self, records: Mapping[str, Any]) -> None:
        calibration = None
        if records["calibration"]:
            calibration = hashlib.sha256(records["calibration"]).hexdigest()[:16]
            self._write(f"calibrations/{calibration}.bin", records["calibration"])
        for entry in records["paths"]:
            name = path_name(entry["decisions"])
            if name not in self._paths:
                self._paths[name] = _Path(self._place / "paths" / name, entry)
            self._paths[name].add(records["batch"], calibration, entry)

    @property
    def _place(self) -> Path:
        assert self._aside is not None, "nothing is written after the end"
        return self._aside

    def _write(self, name: str, data: bytes) -> None:
        path = self._place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def write(
    directory: RecordsDirectory,
    client: BlockingClient,
    job: dict[str, Any],
    done: Callable[[Callable[[], str]], dict[str, Any]],
) -> None:
    """Write the records of a job that is done.  ``done``: runs a second job, for the circuits, and returns its document."""
    from qcosd.ctl.result import describe_error, public_document

    try:
        paths = client.put(directory.collect(client, job))
        inputs = {**{kind: job["artifacts"][kind] for kind in ARTIFACTS}, "paths": paths}
        made = done(lambda: client.submit({**job["options"], "target": "circuits"}, inputs))
        if made["state"] != "done":
            error = made.get("error") or {"name": made["state"], "message": made.get("cause") or ""}
            raise Failure(FAILED, f"--records: the circuits of the job could not be made: {describe_error(error)}")
        directory.finish(client.get(made["artifacts"]["circuits"]), job, public_document(job))
    except OSError as error:
        raise Failure(FAILED, f"--records {directory.target}: {error.strerror or error}") from None
