# SPDX-License-Identifier: Apache-2.0
"""The workers that decode windows for a tracker, each at the other end of a stream.

Whoever has room gets the next window; where nobody has any, the tracker decodes it itself.  A worker that dies is replaced by
the kernel, and its successor gets what it has not answered; meanwhile the tracker takes back what it waits for.  Answers are
checked: the first of a stream and every `SAMPLED`-th is worked out here too.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.handing import answer, window_header
from qcos_plugins.matching_tracker.helpers import Key
from qcos_plugins.matching_tracker.packed import Bits
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.task import Task

from qcosd.sdk import StreamClosed
from qcosd.sdk import StreamFault as BrokenStream

LOG = logging.getLogger("qcos.matching_tracker")

DEPTH = 2
"""Windows in a worker's hands: one that it decodes and one that it need not wait for."""

SAMPLED = 64

PATIENCE = 0.05
SLOW = 3
"""Times as long as any window so far that one may take."""


class _Hand:
    """One of the streams.  ``plans``: those that it was told of.  ``waiting``: what was handed out on it, in order; how many
    predictions there will be of how many shots."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.plans: Plans | None = None
        self.waiting: deque[tuple[Key, int, int]] = deque()
        self.answers = 0


def _has_room(hand: _Hand) -> bool:
    """For a window and what must be said before: nothing may ever wait for a worker."""
    session = hand.stream.session
    return len(hand.waiting) < DEPTH and session.may_send and session.made - session.acked + 2 <= session.credit


class Pool:
    """``granted``: the streams that there are, more of them as time goes on.  ``digest``: of the job's plans; ``plans``: those that
    count now.  ``agrees``: whether an answer is what the tracker itself would have found.

    ``answered``: windows that others have decoded.  ``refused``: why somebody is not asked any more.
    """

    def __init__(
        self,
        granted: Callable[[], list[Any]],
        digest: bytes,
        plans: Callable[[], Plans],
        agrees: Callable[[Key, Bits], bool],
    ) -> None:
        self._granted = granted
        self._digest = digest
        self._plans = plans
        self._agrees = agrees
        self._hands: dict[int, _Hand] = {}  # by identity of the stream
        self._longest = 0.0  # seconds that a window has taken
        self.answered = 0
        self.refused: list[str] = []

    @property
    def count(self) -> int:
        return len(self.streams())

    @property
    def patience(self) -> float:
        """Seconds after which the tracker takes back what it waits for: whoever has it may be gone."""
        return max(PATIENCE, SLOW * self._longest)

    def streams(self) -> list[Any]:
        """Those to wait for."""
        return [hand.stream for hand in self._present()]

    def take(self, key: Key, task: Task, shots: int) -> bool:
        for hand in sorted(filter(_has_room, self._present()), key=lambda hand: len(hand.waiting)):
            with _Broken(self, hand):
                self._tell(hand)
                hand.stream.send(window_header(key, task, shots), task.syndrome)
                hand.waiting.append((key, task.plan.predictions, shots))
                return True
        return False

    def answers(self) -> Iterator[tuple[Key, Bits, float]]:
        """What has arrived, as `Tracker.answered` takes it."""
        for hand in self._present():
            with _Broken(self, hand):
                while (message := hand.stream.poll()) is not None:
                    yield from self._checked(hand, message.header, message.payload)

    def refuse(self, stream: Any, reason: str) -> None:
        """Never ask this one again."""
        LOG.warning("a decode worker is asked no more: %s", reason)
        self.refused.append(reason)
        stream.close()

    def _present(self) -> list[_Hand]:
        for stream in self._granted():
            if id(stream) not in self._hands:
                self._hands[id(stream)] = _Hand(stream)
        return [hand for hand in self._hands.values() if not hand.stream.ended]

    def _tell(self, hand: _Hand) -> None:
        """Of the plans, where they have changed."""
        plans = self._plans()
        if hand.plans is not plans:
            hand.stream.send({"type": "plans", "digest": self._digest}, plans.calibration.to_bytes())
            hand.plans = plans

    def _checked(self, hand: _Hand, header: dict[str, Any], payload: list[bytes]) -> Iterator[tuple[Key, Bits, float]]:
        asked = next((each for each in hand.waiting if list(each[0]) == header.get("key")), None)
        if asked is None:
            return  # a predecessor of this worker has answered it
        hand.waiting.remove(asked)
        key, rows, shots = asked
        predictions, seconds = answer(header, payload, rows, shots)
        if hand.answers % SAMPLED == 0 and not self._agrees(key, predictions):
            raise StreamFault(f"the answer to window {key} is wrong")
        hand.answers += 1
        self.answered += 1
        self._longest = max(self._longest, seconds)
        yield key, predictions, seconds


class _Broken:
    """Whatever a worker does wrong ends its stream, and nothing else."""

    def __init__(self, pool: Pool, hand: _Hand) -> None:
        self._pool = pool
        self._hand = hand

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, StreamClosed | StreamFault | BrokenStream):
            return False
        self._pool.refuse(self._hand.stream, str(error))
        return True
