# SPDX-License-Identifier: Apache-2.0
"""The jobs of a campaign: what they are, clients that see them through, and what "the same result" means."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcosd.ctl.options import JobOptions
from qcosd.ctl.result import public_document
from qcosd.sdk.client import BlockingClient
from qcosd.sdk.errors import DaemonAbsent, DaemonSilent, DeadlineExceeded, RequestFailed

EXAMPLES = Path(__file__).resolve().parents[1] / "etc" / "examples"
PROGRAMS = ("bell", "ghz", "teleport", "branch", "nested", "idle")
UNIVERSAL = ("clifford_t",)  # with T gates, which only one of the machines has
ADAPTERS = ("stim", "tableau")
WAYS: dict[str, dict[str, Any]] = {  # how a batch is decoded
    "sequential": {},
    "parallel": {"settings": ("workers=2",)},
    "shadowed": {"settings": ("shadow=pymatching",)},
}
SHOTS = {"stim": 2000, "tableau": 600}  # of the smallest jobs: about a second of work on one core
BATCH = 100
NOISE = 0.003

VOLATILE = frozenset({
    "job",              # its number
    "submitted", "seconds", "latency_us", "lateness_us", "reaction_us", "stall_rounds", "decode_us_per_round",  # times
    "restarts", "shots_restarted", "degraded",  # what happened on the way, which is to differ
    "cause",            # why it waited
    "shadow",           # how far it got beside them
})  # fmt: skip
"""Keys of a result document that may differ between two runs of the same job. Everything else is the same, bit for bit."""


@dataclass(frozen=True)
class Spec:
    """A job before anybody has seen it."""

    key: str
    program: str
    adapter: str
    seed: int
    shots: int
    way: str = "sequential"

    @property
    def options(self) -> dict[str, Any]:
        words = JobOptions(
            shots=self.shots, distance=3, noise=NOISE, seed=self.seed, batch=BATCH,
            use=(f"hardware={self.adapter}_adapter",), **WAYS[self.way],
        )  # fmt: skip
        return words.validated(f"{self.program}.qasm", self.key)

    @property
    def source(self) -> bytes:
        return (EXAMPLES / f"{self.program}.qasm").read_bytes()


def specs(count: int, adapters: Sequence[str], seed: int, size: float = 1.0) -> list[Spec]:
    """``count`` jobs of ``size`` times the smallest: every program on every adapter in turn, decoded in every way in turn, in an
    order and with seeds drawn from ``seed``."""
    generator = random.Random(seed)
    every = [*itertools.product(PROGRAMS, adapters), *((name, "stim") for name in UNIVERSAL if "stim" in adapters)]
    kinds = list(itertools.islice(itertools.cycle(every), count))
    generator.shuffle(kinds)
    ways = itertools.cycle(WAYS)
    return [
        Spec(f"chaos-{n}", program, adapter, generator.randrange(1 << 32), round(size * SHOTS[adapter]), next(ways))
        for n, (program, adapter) in enumerate(kinds)
    ]


@dataclass
class Course:
    """What has become of a job, as its client saw it. ``document``: the public one, and the plan."""

    spec: Spec
    job: str = ""  # its number; empty while it has not been accepted
    document: dict[str, Any] | None = None  # public, once it has ended
    trouble: str = ""  # why there is none
    retries: int = 0  # times that the SDK had given up and the client began anew, with the same key
    numbers: set[str] = field(default_factory=set)  # every number that its key has been given

    @property
    def lost(self) -> bool:
        return self.document is None

    @property
    def failed(self) -> bool:
        return self.document is not None and self.document["state"] != "done"

    def differences(self, reference: Course) -> list[str]:
        """Keys in which the result is not that of the undisturbed run."""
        mine, other = self.document or {}, reference.document or {}
        return sorted(key for key in mine.keys() | other.keys() if key not in VOLATILE and mine.get(key) != other.get(key))  # fmt: skip


class Clients:
    """Threads that submit jobs and wait for them, each through the SDK's own client, which is what retries.

    ``release(n)`` blocks until job ``n`` may be submitted. ``patience``: seconds for which a client goes on when the SDK gives up.
    """

    def __init__(self, runtime_dir: Path, jobs: Sequence[Spec], number: int, patience: float, release: Callable[[int], None] = lambda n: None) -> None:  # fmt: skip
        self.courses = [Course(spec) for spec in jobs]
        self._runtime_dir, self._patience, self._release = runtime_dir, patience, release
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for n in range(len(jobs)):
            self._waiting.put(n)
        self._threads = [threading.Thread(target=self._work, name=f"client-{n}", daemon=True) for n in range(number)]
        self._lock = threading.Lock()
        self.open = 0  # jobs that have been handed in and have not ended
        self.ended = 0

    def start(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def join(self) -> list[Course]:
        """All courses, once all have ended one way or another."""
        for thread in self._threads:
            thread.join()
        return self.courses

    def _work(self) -> None:
        while True:
            try:
                n = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._release(n)
            with self._lock:
                self.open += 1
            try:
                self._see_through(self.courses[n])
            except Exception as error:  # noqa: BLE001 - a client that falls over is a lost job, and must not stop the campaign
                self.courses[n].trouble = f"{type(error).__name__}: {error}"
            with self._lock:
                self.open -= 1
                self.ended += 1

    def _see_through(self, course: Course) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                with BlockingClient(self._runtime_dir, connect_grace=self._patience, name=course.spec.key) as client:
                    number = client.submit(
                        course.spec.options, {"source": client.put(course.spec.source)}, course.spec.key
                    )
                    course.numbers.add(number)
                    course.job = course.job or number
                    document = client.wait(course.job, timeout=max(0.1, deadline - time.monotonic()))
                    course.document, course.trouble = {**public_document(document), "plan": document["plan"]}, ""
                    return
            except (DaemonAbsent, DaemonSilent, DeadlineExceeded) as error:
                course.trouble = str(error)
            except RequestFailed as error:
                course.trouble = f"{error.name}: {error}"
                if not error.retryable and error.name != "no_such_artifact":  # which was put before the daemon died
                    return
            if time.monotonic() >= deadline:
                return
            course.retries += 1


def repeat(runtime_dir: Path, courses: Sequence[Course], patience: float) -> None:
    """Hand in every job once more: its key must still name the one job that there is."""
    with BlockingClient(runtime_dir, connect_grace=patience) as client:
        for course in courses:
            if course.job:
                number = client.submit(course.spec.options, {"source": client.put(course.spec.source)}, course.spec.key)
                course.numbers.add(number)


def listed(runtime_dir: Path, patience: float) -> dict[str, Mapping[str, Any]]:
    """All jobs that the daemon knows."""
    with BlockingClient(runtime_dir, connect_grace=patience) as client:
        return {row["job"]: row for row in client.jobs(10_000)}
