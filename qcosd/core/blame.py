# SPDX-License-Identifier: Apache-2.0
"""Whose fault it is that something delivered was wrong.

`wrong_output` is said of oneself. `wrong_input` is said of somebody else: who says it is believed, and who made the input, or
holds the other end of the stream, is to blame. Who checks something that was made from a stream may say of both, kind and
stream, that it is the stream which was wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from qcosd.core.work import Lease


class Verdict(NamedTuple):
    """Who is to blame; `component` is None for an input that the client gave."""

    component: str | None
    incarnation: int
    reason: str


def verdict(lease: Lease, error: dict[str, Any]) -> Verdict:
    """Judge what a plugin says of a part of a work item."""
    work, operation, details = lease.work, lease.part.operation, error.get("details", {})
    if error["name"] == "wrong_output":
        return _own(lease, error["message"])
    kind, stream = details.get("kind"), details.get("stream")
    if kind is not None and kind in operation.consumes:
        source = work.job.source(work.batch, kind)
        if source is None:
            return Verdict(None, 0, f"`{kind}`: {error['message']}")
        for part, fed_by in zip(source.step.parts, source.incarnations, strict=True):
            if stream is not None and part.operation.stream_out == stream:
                what = f"what {part.component} sent on the stream `{stream}` for `{kind}`"
                return Verdict(part.component, fed_by, f"{lease.place} refused {what}: {error['message']}")
        component, incarnation = source.maker
        reason = f"{lease.place} refused `{kind}` made by {component}: {error['message']}"
        return Verdict(component, incarnation, reason)
    if stream is not None and stream == (operation.stream_in or operation.stream_out) and len(work.step.parts) > 1:
        other = 1 if lease.delivers else 0
        component = work.step.parts[other].component
        reason = f"{lease.place} refused what came from {component} on the stream `{stream}`: {error['message']}"
        return Verdict(component, work.incarnations[other], reason)
    given = [
        *(f"kind `{kind}`" for kind in operation.consumes),
        *filter(None, [operation.stream_in, operation.stream_out]),
    ]
    known = ", ".join(given) or "nothing"
    text = f"wrong_input does not say of what (details {details}; it was given {known})"
    return _own(lease, f"{text}: {error['message']}")


def _own(lease: Lease, text: str) -> Verdict:
    return Verdict(lease.part.component, lease.incarnation, f"{lease.place}: {text}")
