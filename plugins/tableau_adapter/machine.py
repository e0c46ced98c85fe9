# SPDX-License-Identifier: Apache-2.0
"""The machine behind `qcosd.qec.hardware.Machine`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence

from qcos_plugins.tableau_adapter.noise import Noise
from qcos_plugins.tableau_adapter.play import Play
from qcos_plugins.tableau_adapter.rounds import Strike, Translator
from qcos_plugins.tableau_adapter.shot import RECORD_LIMIT

from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord
from qcosd.qec.hardware import Awaits, Batch, Said
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Calibrated
from qcosd.qec.terms import Terms

KEPT = 4


class Translators:
    """Those of the programs and rates that were asked for last: batches of a job share theirs."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Translator] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, program: FragmentProgram, noise: Noise, known_syndrome: str) -> Translator:
        # A translator keeps its program alive, so that no other one can have its id.
        key = (id(program), noise.rates.id, noise.erasure, noise.offset, known_syndrome)
        if key not in self._kept:
            self._kept[key] = Translator(program, noise, known_syndrome)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


class TableauMachine:
    """``terms``: the device, how noisy it truly is, and what it says of that.  ``known_syndrome``: see `Translator`.
    ``faults``: for shot 0, 1, ... of every batch those that are injected into it.
    """

    def __init__(
        self,
        terms: Terms,
        translators: Translators | None = None,
        *,
        known_syndrome: str = "any",
        faults: Sequence[Iterable[Strike]] = (),
        record_limit: int = RECORD_LIMIT,
    ) -> None:
        self.device = terms.device
        self._terms = terms
        self._translators = Translators() if translators is None else translators
        self._known_syndrome = known_syndrome
        self._faults = faults
        self._record_limit = record_limit
        self._program: FragmentProgram | None = None
        self._offset: Coord = (0, 0)
        self._armed: tuple[Batch, Translator, list[Said]] | None = None
        self._playing: Generator[Said | Awaits, bytes | None, None] | None = None
        self._answer: bytes | None = None

    def prepare(self, program: FragmentProgram, placement: Placement) -> None:
        """``program`` fits ``placement`` and the device: see `qcosd.qec.readiness`."""
        self._program = program
        self._offset = placement.offset

    def arm(self, batch: Batch) -> None:
        assert self._program is not None, "a program is prepared first"
        truth = Noise(self._terms.truth(batch.seed, batch.index), self.device.noise.erasure, self._offset)
        translator = self._translators.of(self._program, truth, self._known_syndrome)
        told = self._terms.calibrated(batch.seed, batch.index)
        news = [] if told is None else [Said(Calibrated(batch.index, told.id), (told.to_bytes(),))]
        self._armed = batch, translator, news

    def start(self, t0_ns: int) -> None:
        assert self._armed is not None, "a batch is armed first"
        batch, translator, news = self._armed
        play = Play(
            translator,
            batch,
            lost=self.device.noise.lost,
            discard=self.device.noise.discard,
            t0_ns=t0_ns,
            round_ns=self.device.round_ns,
            faults=self._faults,
            record_limit=self._record_limit,
        )
        self._playing = _after(news, play)

    def next(self) -> Said | Awaits | None:
        assert self._playing is not None, "the batch is started first"
        answer, self._answer = self._answer, None
        try:
            return self._playing.send(answer)
        except StopIteration:
            self.abort()
            return None

    def decide(self, path: str, k: int, values: bytes) -> None:
        """Which path and decision it is, the play knows: it waits for nothing else."""
        self._answer = values

    def abort(self) -> None:
        """Forgets the batch; what the next one of the same program needs is kept."""
        self._armed = None
        self._playing = None
        self._answer = None


def _after(news: list[Said], play: Play) -> Generator[Said | Awaits, bytes | None, None]:
    yield from news
    yield from play.run()
