# SPDX-License-Identifier: Apache-2.0
"""`qcosctl replay DIR`: records that are on disk go through the tracker again, as if a machine had just made them.

What DIR is, is found out by its files: `READERS` are asked one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from qcosd.ctl import foreign as published
from qcosd.ctl import options as o
from qcosd.ctl import recorded as own
from qcosd.ctl.connection import daemon_options
from qcosd.ctl.failure import bad_usage

if TYPE_CHECKING:
    from qcosd.sdk.client import BlockingClient


class Reader(NamedTuple):
    """A kind of directory.  ``knows``: whether a directory is of this kind, by the names of its files alone.  ``read``: the
    artifacts and the options of the job that plays it; raises `Failure` (exit 2) naming file and place.  ``settings``: the keys
    of `--set` that it takes.  ``opens``: that job only opens the files, and how many shots there are is known when it is done."""

    knows: Callable[[Path], bool]
    read: Callable[[Path], tuple[Mapping[str, bytes], dict[str, Any]]]
    about: str
    settings: frozenset[str]
    opens: bool = False


READERS = (
    Reader(own.is_recorded, own.recorded, "job.json, as `qcosctl run --records` writes it", own.SETTINGS),
    Reader(
        published.is_foreign,
        published.foreign,
        "a published experiment: circuit.stim or model.dem, and measurements.b8 or detection_events.b8",
        published.SETTINGS,
        opens=True,
    ),
)


@dataclass(frozen=True)
class Replay:
    """A job made of a directory: ``inputs``, kind -> bytes, and ``options``, the target among them."""

    inputs: Mapping[str, bytes]
    options: dict[str, Any]

    def send(self, client: BlockingClient) -> str:
        """Store the artifacts and submit the job; its id."""
        return client.submit(self.options, {kind: client.put(data) for kind, data in self.inputs.items()})


class Opening(Replay):
    """A job that makes an experiment of files; the next one plays it."""

    def after(self, document: Mapping[str, Any]) -> Played:
        """The job that plays what the first one has made."""
        shots = document["facts"]["hardware.open"]["shots"]
        return Played(dict(document["artifacts"]), {**self.options, "target": "counts", "shots": shots})


@dataclass(frozen=True)
class Played:
    """``artifacts``: kind -> digest of what the daemon has already."""

    artifacts: Mapping[str, str]
    options: dict[str, Any]

    def send(self, client: BlockingClient) -> str:
        inputs = {kind: self.artifacts[kind] for kind in ("experiment", "experiment_shots")}
        return client.submit(self.options, inputs)


def replay_of(directory: str, settings: Iterable[str] = ()) -> Replay:
    """``settings``: keys of `--set`.

    Raises `Failure` (exit 2) for a directory that no reader knows, or whose files are not what they should be, and for keys
    that nobody would read.
    """
    path = Path(directory)
    try:
        if not path.is_dir():
            raise bad_usage(f"{directory}: no such directory")
        for reader in READERS:
            if reader.knows(path):
                for key in settings:
                    if key not in reader.settings:
                        known = ", ".join(sorted(reader.settings))
                        raise bad_usage(f"--set {key}: changes nothing in a replay of {directory}, which takes {known}")
                return (Opening if reader.opens else Replay)(*reader.read(path))
    except OSError as error:
        raise bad_usage(f"{error.filename or directory}: cannot be read: {error.strerror}") from None
    known = "; ".join(reader.about for reader in READERS)
    raise bad_usage(f"{directory}: no records that can be played (known: {known})")


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--decoder", metavar="NAME", help="Another decoder than the one that the records were decoded with.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of a plugin; repeatable.")
@click.option(
    "--use", multiple=True, metavar="SERVICE=PLUGIN", help="This plugin and no other for a service; repeatable."
)
@click.option("--deadline", type=float, metavar="SECONDS", help="Give up when the job takes longer.")
@daemon_options
def replay(
    directory: str,
    decoder: str | None,
    settings: tuple[str, ...],
    use: tuple[str, ...],
    deadline: float | None,
    as_json: bool,
    runtime_dir: str | None,
) -> int:
    """Decode the records in DIR again, live, and print the result.

    DIR was written by `qcosctl run --records`: with the same decoder the counts are the same, bit for bit. Or it holds a
    published experiment in stim's formats: then a 1 in a key of the counts is a logical error that decoding has left.
    """
    from qcosd.ctl.run import run_submission

    changes: dict[str, Any] = {}
    if decoder is not None:
        o.check_text("--decoder", decoder)
        changes["decoder"] = decoder
    if deadline is not None:
        if not 0 < deadline <= o.MAX_DEADLINE:
            raise o.out_of_range("--deadline", deadline, f"a number of seconds above 0, at most {o.MAX_DEADLINE:.0f}")
        changes["deadline"] = deadline
    chosen, set_ = o.parse_use(use), o.parse_settings(settings)
    if (machine := chosen.get("hardware", own.PLAYER)) != own.PLAYER:
        raise bad_usage(
            f"--use hardware={machine}: a replay is played by {own.PLAYER}, no other machine has these records"
        )
    played = replay_of(directory, set_)
    played.options.update(changes)
    played.options["use"] = {**played.options.get("use", {}), **chosen}
    played.options["set"] = {**played.options.get("set", {}), **set_}
    return run_submission(played, runtime_dir, as_json)
