# SPDX-License-Identifier: Apache-2.0
"""The error table of the wire: every error that one side may tell another. Part of the protocol; see ``qcosd.protocol``."""

from __future__ import annotations

from typing import Any, NamedTuple


class ErrorSpec(NamedTuple):
    """A row of the error table."""

    code: int
    retryable: bool
    text: str


ERRORS: dict[str, ErrorSpec] = {
    # 1-99: the protocol itself
    "bad_message": ErrorSpec(1, False, "the message breaks the protocol; the peer is disconnected"),
    "unknown_type": ErrorSpec(2, False, "the message type is not known here"),
    "unsupported_version": ErrorSpec(3, False, "no protocol version is common to both sides"),
    "not_allowed": ErrorSpec(4, False, "this peer has no right to do that"),
    "over_quota": ErrorSpec(5, True, "the peer has too much outstanding"),
    "late": ErrorSpec(6, False, "the message belongs to an old incarnation or an old epoch"),
    "key_conflict": ErrorSpec(7, False, "the idempotency key was used for a different request"),
    "deadline": ErrorSpec(8, True, "the deadline of the request has passed"),
    "no_reply": ErrorSpec(9, True, "whoever should have answered is gone"),
    "shutting_down": ErrorSpec(10, True, "the kernel is stopping or draining and takes no new work"),
    "rolled_back": ErrorSpec(
        12, False, "the journal has lost what it once had; new work waits until somebody accepts that"
    ),
    "internal": ErrorSpec(11, False, "a bug; please report it with the log"),
    # 100-199: what a request names
    "no_such_job": ErrorSpec(100, False, "no job has that name"),
    "no_such_artifact": ErrorSpec(101, False, "no artifact has that digest here"),
    "no_such_plugin": ErrorSpec(102, False, "no component has that name"),
    "not_finished": ErrorSpec(103, True, "the job has no result yet"),
    "bad_input": ErrorSpec(104, False, "the input is wrong"),
    "unsupported": ErrorSpec(105, False, "the input is legal, but not offered here"),
    "wrong_digest": ErrorSpec(106, False, "the bytes do not have the announced SHA-256"),
    "no_space": ErrorSpec(
        107, True, "the daemon has no room to store it: its state directory is full or cannot be written"
    ),
    "no_process": ErrorSpec(108, True, "the component has no process at the moment"),
    # 200-299: work
    "cancelled": ErrorSpec(200, False, "cancelled on request"),
    "poison": ErrorSpec(201, False, "a work item killed its plugin again and again"),
    "no_provider": ErrorSpec(202, True, "no component that works can produce what is wanted"),
    "wrong_output": ErrorSpec(203, False, "a plugin delivered something other than its manifest promises"),
    "retry_later": ErrorSpec(204, True, "the plugin asks to be given this work again"),
    "plugin_died": ErrorSpec(205, True, "the plugin died with the work in hand"),
    "budget": ErrorSpec(206, False, "the work did not end within its budget"),
    "wrong_input": ErrorSpec(
        207, False, "an input is not what its kind promises; details say which: `kind` or `stream`"
    ),
    # 300-399: interrupts, typed requests that the kernel re-plan; details carry the counter-offer
    "does_not_fit": ErrorSpec(300, False, "the program does not fit on the device"),
    "recompile": ErrorSpec(301, True, "a decoded outcome asks for corrective gates"),
    "backlog": ErrorSpec(302, False, "decoding is slower than the rounds arrive"),
    "hardware_fault": ErrorSpec(303, True, "sites of the device have failed"),
    "deadline_missed": ErrorSpec(304, False, "a decision came too late for the hardware"),
}
INTERRUPTS = range(300, 400)
MAX_TEXT = 4096  # characters of a message; longer ones are cut


def error_table(name: str, message: str = "", details: dict[str, Any] | None = None) -> dict[str, Any]:
    """The error table of a name in ERRORS, ready for the body of ERROR or FAILED."""
    spec = ERRORS[name]
    return {"code": spec.code, "name": name, "message": (message or spec.text)[:MAX_TEXT], "details": details or {}, "retryable": spec.retryable}  # fmt: skip
