# SPDX-License-Identifier: Apache-2.0
"""What a program file and the options of a job must satisfy before a daemon is asked.

Everything here is decided by the file and the options alone. A violation raises `Failure` with exit code 2 and one
line that names the file or option, what was given, and what is allowed.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcosd.ctl.failure import Failure, bad_usage

DEFAULT_DECODER = "pymatching-tempered"
DEFAULT_SHOTS = 1000
DEFAULT_DISTANCE = 3
DEFAULT_NOISE = 0.001
DEFAULT_BATCH = 256
MAX_BATCH = 1024
MAX_SHOTS = 1_000_000_000
MAX_DISTANCE = 101
MAX_SOURCE_BYTES = 16 * 1024 * 1024
MAX_SEED = 2**63 - 1
SEED_BITS = 53  # a seed drawn here survives any JSON reader, also those that keep numbers as doubles

MAX_DEADLINE = 1e9  # seconds; what a message carries
MAX_KEY = 128  # characters; what a message carries
MAX_NAME = 128
PRIOR_FLOOR = 1e-4
"""No rate that a decoder assumes is smaller: below it a matching graph has no edges worth the name."""

_NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_.-")
# The C0 controls that text may hold: tab, line feed, vertical tab, form feed, carriage return.
_TEXT_CONTROLS = frozenset("\t\n\v\f\r")


@dataclass(frozen=True)
class JobOptions:
    """The options of one job, as typed; `validated()` returns the map that is submitted."""

    shots: int = DEFAULT_SHOTS
    distance: int = DEFAULT_DISTANCE
    noise: float = DEFAULT_NOISE
    prior: float | None = None
    seed: int | None = None
    batch: int | None = None
    decoder: str = DEFAULT_DECODER
    deadline: float | None = None
    priority: int = 0
    device: str | None = None
    target: str = "counts"
    settings: Sequence[str] = field(default_factory=tuple)
    use: Sequence[str] = field(default_factory=tuple)
    verify: bool = True
    discard_budget: int | None = None

    def validated(self, source_name: str, key: str | None = None) -> dict[str, Any]:
        """The job's option map, every value checked; draws a seed where none was given.

        With an idempotency key the seed follows from the key: the same command again must ask for the same job.

        Raises `Failure` (exit 2) for the first option that is out of range.
        """
        if not 1 <= self.shots <= MAX_SHOTS:
            raise out_of_range("--shots", self.shots, f"a whole number from 1 to {MAX_SHOTS}")
        if not 3 <= self.distance <= MAX_DISTANCE or self.distance % 2 == 0:
            raise out_of_range("--distance", self.distance, f"an odd number from 3 to {MAX_DISTANCE}")
        _check_probability("--noise", self.noise)
        prior = self.noise if self.prior is None else self.prior
        _check_probability("--prior", prior)
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise out_of_range("--seed", self.seed, f"a whole number from 0 to {MAX_SEED}")
        batch = DEFAULT_BATCH if self.batch is None else self.batch
        if not 1 <= batch <= MAX_BATCH:
            raise out_of_range("--batch", batch, f"a whole number from 1 to {MAX_BATCH}")
        if not is_name(self.decoder):
            raise out_of_range("--decoder", repr(self.decoder), "the name of a decoder (qcosctl decoders lists them)")
        if not -100 <= self.priority <= 100:
            raise out_of_range("--priority", self.priority, "a whole number from -100 to 100")
        options: dict[str, Any] = {
            "shots": self.shots,
            "distance": self.distance,
            "noise": self.noise,
            "prior": prior,
            "seed": self._drawn(key) if self.seed is None else self.seed,
            "batch": batch,
            "decoder": self.decoder,
            "priority": self.priority,
            "target": self.target,
            "source_name": source_name.encode("utf-8", "replace").decode(),  # a file name need not be text
            "set": parse_settings(self.settings),
        }
        if self.deadline is not None:
            if not 0 < self.deadline <= MAX_DEADLINE:
                raise out_of_range(
                    "--deadline", self.deadline, f"a number of seconds above 0, at most {MAX_DEADLINE:.0f}"
                )
            options["deadline"] = self.deadline
        if self.device is not None:
            check_text("--device", self.device)
            options["device"] = self.device
        if use := parse_use(self.use):
            options["use"] = use
        if not self.verify:
            options["verify"] = False
        if self.discard_budget is not None:
            if not 0 <= self.discard_budget <= MAX_SHOTS:
                raise out_of_range("--discard-budget", self.discard_budget, f"a whole number from 0 to {MAX_SHOTS}")
            options["discard_budget"] = self.discard_budget
        return options

    @staticmethod
    def _drawn(key: str | None) -> int:
        if key is None:
            return secrets.randbits(SEED_BITS)
        return int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big") >> (64 - SEED_BITS)


def parse_settings(words: Sequence[str]) -> dict[str, str]:
    """`["feedback=insert", ..]` as a map. A word without `=`, an empty key or a repeated key is a usage error."""
    settings: dict[str, str] = {}
    for word in words:
        check_text("--set", word)
        key, equals, value = word.partition("=")
        key = key.strip()
        if not equals or not key:
            raise bad_usage(f"--set {word!r}: give KEY=VALUE")
        if key in settings:
            raise bad_usage(f"--set {word!r}: {key} is given twice")
        settings[key] = value.strip()
    return settings


def parse_use(words: Sequence[str]) -> dict[str, str]:
    """`["hardware=tableau_adapter", ..]` as a map. Whether service and plugin exist is for the daemon to say."""
    chosen: dict[str, str] = {}
    for word in words:
        service, _, plugin = (part.strip() for part in word.partition("="))
        if not is_name(service) or not is_name(plugin):
            raise bad_usage(f"--use {word!r}: give SERVICE=PLUGIN")
        if service in chosen:
            raise bad_usage(f"--use {word!r}: {service} is given twice")
        chosen[service] = plugin
    return chosen


def read_source(path: str) -> bytes:
    """The bytes of the program at `path`: text in UTF-8, not empty. Raises `Failure` (exit 2) naming the file."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_SOURCE_BYTES + 1)
    except FileNotFoundError:
        raise bad_usage(f"{path}: no such file") from None
    except IsADirectoryError:
        raise bad_usage(f"{path}: is a directory, not a program") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise bad_usage(f"{path}: cannot be read: {reason}") from None
    if len(data) > MAX_SOURCE_BYTES:
        raise bad_usage(f"{path}: larger than {MAX_SOURCE_BYTES // (1024 * 1024)} MiB, not a program")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise bad_usage(f"{path}:{line}: not text (byte {error.start} is not UTF-8)") from None
    if not text.strip():
        raise bad_usage(f"{path}: is empty")
    for line, content in enumerate(text.split("\n"), start=1):
        if any(ord(c) < 32 and c not in _TEXT_CONTROLS for c in content):
            raise bad_usage(f"{path}:{line}: not text (a control character)")
    return data


def is_name(word: str) -> bool:
    """Whether the protocol takes `word` as a name (of a job, a plugin, a kind of artifact)."""
    return 0 < len(word) <= MAX_NAME and _NAME_CHARACTERS.issuperset(word)


def check_text(option: str, word: str) -> None:
    """Refuse what came from the command line and is not text: a message could not carry it."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        raise out_of_range(option, repr(word), "text in UTF-8") from None


def _check_probability(option: str, value: float) -> None:
    if not 0 <= value < 0.5:  # also refuses nan, which compares false
        raise out_of_range(option, value, "a number in [0, 0.5)")


def out_of_range(option: str, value: object, allowed: str) -> Failure:
    """The one line for an option whose value is not allowed (exit 2)."""
    return bad_usage(f"{option} {value}: give {allowed}")
