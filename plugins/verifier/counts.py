# SPDX-License-Identifier: Apache-2.0
"""Whether the counts of a batch are in order: totals, keys, and that the audited shots are among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
from qcos_plugins.verifier.finding import Wrong

EXTRA = {"audit", "calibration"}
"""What the artifact may hold beside the sums that are reported."""

VOLATILE = {
    "latency_us",
    "templates_missed",
    "lateness_us",
    "reaction_us",
    "stall_rounds",
    "decode_us_per_round",
    "shadow",
}
"""What is reported and need not be in the artifact: how long it took, and what was at hand, are no part of the result."""


def read_counts(data: bytes) -> dict[str, Any]:
    """The artifact.  Raises Wrong."""
    try:
        document = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise Wrong(f"it cannot be read: {error!r}") from None
    if not isinstance(document, dict):
        raise Wrong("it is no map")
    for key in ("counts", "counts_undecoded"):
        table = document.get(key)
        if not isinstance(table, dict) or any(
            type(k) is not str or type(n) is not int or n < 1 for k, n in table.items()
        ):
            raise Wrong(f"`{key}` is no table of numbers")
    for key in ("shots_accepted", "shots_discarded", "detection_events", "detectors_total"):
        if type(document.get(key)) is not int or document[key] < 0:
            raise Wrong(f"`{key}` is no number")
    return document


def check_totals(document: Mapping[str, Any], registers: Sequence[tuple[str, int]], shots: int) -> None:
    """Raises Wrong unless every shot of the batch is accounted for once, under a key of the right form."""
    accepted, discarded = document["shots_accepted"], document["shots_discarded"]
    if accepted + discarded != shots:
        raise Wrong(
            f"{accepted} shots accepted and {discarded} discarded make {accepted + discarded}, the batch has {shots}"
        )
    if (total := sum(document["counts"].values())) != accepted:
        raise Wrong(f"its counts add up to {total}, {accepted} shots were accepted")
    if (total := sum(document["counts_undecoded"].values())) > accepted:
        raise Wrong(f"its undecoded counts add up to {total}, {accepted} shots were accepted")
    if sum(document.get("discards", {}).values()) != discarded:
        raise Wrong(f"its reasons for discarding do not add up to {discarded}")
    if document["detection_events"] > document["detectors_total"]:
        raise Wrong("it has more detection events than detectors")
    form = [size for _, size in registers]
    for key in (*document["counts"], *document["counts_undecoded"]):
        words = key.split(" ") if form else []
        if [len(word) for word in words] != form or set(key) - set("01 "):
            raise Wrong(f"key {key[:80]!r} does not have the form of registers of {form} bits")


def check_summary(document: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Raises Wrong where what was reported for the result differs from the artifact."""
    reported = summary.get("sum", {})
    if differing := sorted(
        key
        for key in reported.keys() | document.keys() - EXTRA
        if reported.get(key) != document.get(key) and (key not in VOLATILE or key in document)
    ):
        raise Wrong(f"what was reported with it is something else: {', '.join(map(str, differing))}")


def check_contained(outcomes: Counter[str], counts: Mapping[str, int], what: str) -> None:
    """Raises Wrong unless the outcomes of audited shots are among the counts."""
    for key, times in outcomes.items():
        if counts.get(key, 0) < times:
            raise Wrong(f"{times} audited shots have {what} {key}, and the table has {counts.get(key, 0)}")
