# SPDX-License-Identifier: Apache-2.0
"""What `run` and `job submit` share: their options, and a job that is ready to be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import click

from qcosd.ctl import options as o
from qcosd.ctl.failure import bad_usage
from qcosd.ctl.foreign import ONLY_HERE

if TYPE_CHECKING:
    from qcosd.sdk.client import BlockingClient

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--shots", type=int, default=o.DEFAULT_SHOTS, show_default=True, help="How often the program is run."),
    click.option("--distance", type=int, default=o.DEFAULT_DISTANCE, show_default=True, help="Code distance, odd."),
    click.option("--noise", type=float, default=o.DEFAULT_NOISE, show_default=True, help="Physical error rate."),
    click.option("--prior", type=float, help="Error rate that the decoder assumes. [default: the noise]"),
    click.option("--seed", type=int, help="Same seed, same result. [default: drawn, or taken from --key; reported]"),
    click.option("--batch", type=int, help=f"Shots that are run side by side. [default: {o.DEFAULT_BATCH}]"),
    click.option(
        "--decoder", default=o.DEFAULT_DECODER, show_default=True, help="Decoder; `qcosctl decoders` lists them."
    ),
    click.option("--device", metavar="NAME", help="Device file of the hardware. [default: a grid that grows to fit]"),
    click.option("--key", metavar="TEXT", help="Idempotency key: the same key again is the same job."),
    click.option("--deadline", type=float, metavar="SECONDS", help="Give up when the job takes longer."),
    click.option("--priority", type=int, default=0, show_default=True, help="Higher goes first."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of a plugin; repeatable."),
    click.option(
        "--use", multiple=True, metavar="SERVICE=PLUGIN", help="This plugin and no other for a service; repeatable."
    ),
    click.option("--verify/--no-verify", default=True, show_default=True, help="Let verifiers check the results."),
    click.option("--discard-budget", type=int, metavar="N", help="Shots that may be discarded. [default: the shots]"),
    click.option("--target", default="counts", show_default=True, help="Kind of artifact or result that is wanted."),
    click.option("--as", "kind", default="source", show_default=True, help="Kind of artifact that FILE is."),
)


def submission_options(function: F) -> F:
    """FILE and every option of a job."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return click.argument("file")(function)


class Sendable(Protocol):
    """A job that no daemon has seen yet."""

    def send(self, client: BlockingClient) -> str:
        """Store what it needs and submit it; its id."""


@runtime_checkable
class Staged(Protocol):
    """A job that is there for another one, which is the one that was asked for."""

    def after(self, document: Mapping[str, Any]) -> Sendable:
        """The other one, given the kernel's document of the first, which is done."""


@dataclass(frozen=True)
class Submission:
    """A job, checked as far as file and options tell, that no daemon has seen yet."""

    source: bytes
    kind: str
    options: dict[str, Any]
    key: str | None

    @classmethod
    def of(cls, file: str, kind: str, key: str | None, words: dict[str, Any]) -> Submission:
        """Check the command line's words. Raises `Failure` (exit 2)."""
        options = o.JobOptions(**words).validated(file, key)
        for name in sorted(ONLY_HERE & options["set"].keys()):
            raise bad_usage(f"--set {name}: changes nothing here, only in `qcosctl replay` of a published experiment")
        if key is not None:
            o.check_text("--key", key)
            if not 1 <= len(key) <= o.MAX_KEY:
                raise o.out_of_range("--key", repr(key), f"1 to {o.MAX_KEY} characters")
        for option, name in (("--as", kind), ("--target", options["target"])):
            if not o.is_name(name):
                raise o.out_of_range(option, repr(name), "a name of letters, digits and _ . -")
        return cls(o.read_source(file), kind, options, key)

    def send(self, client: BlockingClient) -> str:
        """Store the program and submit the job; its id."""
        return client.submit(self.options, {self.kind: client.put(self.source)}, key=self.key)
