# SPDX-License-Identifier: Apache-2.0
"""Conversations under way over one session: each of ``calls`` is begun here and gets its replies as they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from qcosd.protocol import Message
from qcosd.sdk.calls import Talk
from qcosd.sdk.errors import SdkError
from qcosd.sdk.session import Answer, Failure, Request, Session

T = TypeVar("T")


class Conversation(Generic[T]):
    """One of them.  ``over`` says whether ``result()`` can be had."""

    def __init__(self, talk: Talk[T], ended: Callable[[Conversation[T]], None] | None) -> None:
        self._talk = talk
        self._ended = ended
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._replies: dict[int, Message | None] = {}  # in the order of the requests

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return bool(self._value) or self._error is not None

    def result(self) -> T:
        """What it has returned; raises what ended it."""
        if self._error is not None:
            raise self._error
        return self._value[0]


class Conversations:
    """All that go on over ``session``.  Hand every happening of the session to ``take``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_call: dict[int, Conversation[Any]] = {}

    def begin(
        self, talk: Talk[T], now: float, ended: Callable[[Conversation[T]], None] | None = None
    ) -> Conversation[T]:
        """Send the first requests.  ``ended`` is called once, with the conversation, when it is over."""
        conversation = Conversation(talk, ended)
        self._go_on(conversation, lambda: next(talk), now)
        return conversation

    def abandon(self, conversation: Conversation[Any], error: BaseException | None = None) -> None:
        """End it, with ``error`` if it is not over yet.  Late replies are ignored."""
        self._drop_calls(conversation)
        if not conversation.over:
            conversation._talk.close()
            self._end(conversation, error or SdkError("abandoned"))

    def take(self, happening: object, now: float) -> bool:
        """True if the happening belongs to one of the conversations."""
        match happening:
            case Answer(call=call, message=message) if call in self._by_call:
                conversation = self._by_call.pop(call)
                conversation._replies[call] = message
                replies = list(conversation._replies.values())
                if None not in replies:
                    complete = [reply for reply in replies if reply is not None]
                    self._go_on(conversation, lambda: conversation._talk.send(complete), now)
                return True
            case Failure(call=call, error=error) if call in self._by_call:
                conversation = self._by_call[call]
                self._drop_calls(conversation)
                self._go_on(conversation, lambda: conversation._talk.throw(error), now)
                return True
        return False

    def _go_on(self, conversation: Conversation[Any], step: Callable[[], list[Request]], now: float) -> None:
        conversation._replies = {}
        try:
            for request in step():
                id = self._session.request(request, now)
                conversation._replies[id] = None
                self._by_call[id] = conversation
        except StopIteration as stop:
            conversation._value.append(stop.value)
            if conversation._ended is not None:
                conversation._ended(conversation)
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits for the result
            self._drop_calls(conversation)
            self._end(conversation, error)

    def _end(self, conversation: Conversation[Any], error: BaseException) -> None:
        conversation._error = error
        if conversation._ended is not None:
            conversation._ended(conversation)

    def _drop_calls(self, conversation: Conversation[Any]) -> None:
        for call in conversation._replies:
            self._by_call.pop(call, None)
            self._session.abandon(call)
