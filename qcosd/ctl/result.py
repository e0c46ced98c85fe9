# SPDX-License-Identifier: Apache-2.0
"""From the kernel's job document to the public JSON document, and from that to text.

The kernel keeps a job as `{job, state, cause, options, artifacts, facts, summary, ..}` and knows nothing of shots or
windows: `facts` is what each operation said of itself, `summary` is what the batches reported, merged as
`{"same": .., "sum": .., "min": .., "max": ..}`. The public document is flat and stable; a number that no component
reported is null, never invented.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from qcosd import __version__
from qcosd.ctl.options import PRIOR_FLOOR

Document = Mapping[str, Any]

PERCENTILES = (("p50", 0.50), ("p99", 0.99), ("p999", 0.999))
MAX_TABLE_ROWS = 16
COUNTED = frozenset({"counts", "records"})
"""Targets of jobs that run shots."""


def public_document(job: Document) -> dict[str, Any]:
    """The public document of a job, in any state.

    A job that runs no shots has the short form: no QEC numbers, its artifacts by kind.
    """
    options = _section(job, "options")
    target = str(options.get("target", "counts"))
    document: dict[str, Any] = {"job": job.get("job"), "state": job.get("state")}
    if target in COUNTED:
        document.update(_qec_numbers(job, options))
    else:
        document["target"] = target
    versions, consistent = _versions(job)
    document.update(
        {
            "artifacts": dict(_section(job, "artifacts")),
            "restarts": job.get("restarts", 0),
            "degraded": [*(job.get("degraded") or []), *_leaning(job), *_worsened(job), *_doubted(job)],
            "verified": list(job.get("verified") or []),
            "reproducible": bool(job.get("reproducible", True)) and consistent,
            "versions": versions,
            "batches": dict(_section(job, "batches")),
            "submitted": job.get("submitted"),
            "seconds": dict(_section(job, "seconds")),
            "cause": job.get("cause") or None,
            "error": dict(_section(job, "error")) or None,
        }
    )
    return document


def _qec_numbers(job: Document, options: Document) -> dict[str, Any]:
    summary = _section(job, "summary")
    same, total = _section(summary, "same"), _section(summary, "sum")
    prepared = _section(_section(job, "facts"), "qecc.prepare")
    shots = options.get("shots")
    return {
        "shots": shots,
        "counts": _counts(total.get("counts")),
        "counts_undecoded": _counts(total.get("counts_undecoded")),
        "registers": {str(name): size for name, size in same.get("registers") or []},
        "bit_order": same.get("bit_order"),
        "distance": prepared.get("distance", options.get("distance")),
        "noise": options.get("noise"),
        "prior": _prior(job, options),
        "seed": options.get("seed"),
        "rounds": _rounds(summary),
        "window": same.get("window"),
        "detectors": same.get("detectors"),
        "detection_events": total.get("detection_events"),
        "decoder": same.get("decoder", options.get("decoder")),
        "shadow": _shadow(options, total),
        "calibration": same.get("calibration"),
        "assumptions": _assumptions(job),
        "calibrations": dict(_section(total, "calibrations")),
        "hardware": _hardware(job),
        "shots_accepted": total.get("shots_accepted", 0),
        "shots_discarded": total.get("shots_discarded", 0),
        "discards": dict(_section(total, "discards")),
        "shots_restarted": job.get("shots_restarted", 0),
        "records_missing": total.get("records_missing", 0),
        "rounds_lost": total.get("rounds_lost", 0),
        "rounds_late": total.get("rounds_late", 0),
        "erasures": same.get("erasures"),
        "stall_rounds": total.get("stall_rounds", 0),
        **_logical_errors(same, total),
        "latency_us": latency_percentiles(_section(total, "latency_us")),
        "lateness_us": latency_percentiles(_section(total, "lateness_us")),
        "reaction_us": latency_percentiles(_section(total, "reaction_us")),
        "decode_us_per_round": _decode_us(_section(total, "decode_us_per_round")),
        "utilisation": _utilisation(_section(total, "decode_us_per_round")),
    }


def _decode_us(spent: Document) -> float | None:
    """What a round of a batch cost the tracker, None where nothing was timed."""
    rounds = spent.get("rounds", 0)
    return round(spent["busy_us"] / rounds, 3) if rounds else None


def _utilisation(spent: Document) -> float | None:
    """What decoding took of the time that the rounds took, None where that is virtual."""
    hardware = spent.get("hardware_us", 0)
    return round(spent["busy_us"] / hardware, 3) if hardware else None


def _shadow(options: Document, total: Document) -> dict[str, Any] | None:
    """How a shadow's counts compare, by batches, and in how many shots at least they differ; None where none was asked for."""
    decoder = _section(options, "set").get("shadow")
    if not decoder:
        return None
    found = _section(total, "shadow")
    return {"decoder": decoder, **{key: found.get(key, 0) for key in ("agreed", "differed", "lost", "shots")}}


def _doubted(job: Document) -> list[str]:
    """A shadow that decodes in the same way must come to the same."""
    summary, options = _section(job, "summary"), _section(job, "options")
    shadow = _shadow(options, _section(summary, "sum"))
    decoder = _section(summary, "same").get("decoder")
    if shadow is None or not shadow["differed"] or shadow["decoder"] != decoder:
        return []
    return [
        f"a shadow with the same decoder came to other counts in {shadow['differed']} batches: one of the two is wrong"
    ]


def _leaning(job: Document) -> list[str]:
    """Discarding selects: a branch with more rounds loses more of its shots, and what is run again chooses its branch anew."""
    discarded = _section(_section(job, "summary"), "sum").get("shots_discarded", 0)
    paths = _section(_section(job, "facts"), "qecc.prepare").get("paths", 1)
    if not discarded or paths < 2:
        return []
    return [f"{discarded} shots were discarded from {paths} paths: the counts lean towards paths that lose fewer shots"]


def _logical_errors(same: Document, total: Document) -> dict[str, Any]:
    """Of a published experiment: shots in which decoding leaves an observable flipped, and their share."""
    if "logical_errors" not in total:
        return {}
    errors, shots = int(total["logical_errors"]), int(total.get("shots_accepted", 0))
    return {
        "experiment": same.get("experiment"),
        "logical_errors": errors,
        "logical_error_rate": errors / shots if shots else None,
    }


def _worsened(job: Document) -> list[str]:
    """Of a published experiment: a model may come apart into edges and yet say too little to be matched, as of colour codes."""
    total = _section(_section(job, "summary"), "sum")
    left = total.get("logical_errors", 0)
    # A 1 in a key is a logical error, and a shot may have several.
    without = sum(n for key, n in _section(total, "counts_undecoded").items() if "1" in key)
    if left <= without:
        return []
    return [
        f"decoding left more logical errors ({left}) than there were without it ({without}): where that is no chance, "
        "this decoder does not fit this code"
    ]


def _prior(job: Document, options: Document) -> float | None:
    """The strength that the decoder really assumed: hardware says so, else what was asked for, but never below the floor."""
    said = _section(_section(job, "facts"), "hardware.calibrate").get("prior")
    asked = options.get("prior") if said is None else said
    return None if asked is None else max(float(asked), PRIOR_FLOOR)


def _hardware(job: Document) -> str | None:
    """The component that ran the shots, None where none has yet."""
    plan = _section(_section(job, "plan"), "providers")
    return next(
        (str(plan[step]) for step in ("hardware.run", "hardware.replay", "hardware.play") if step in plan), None
    )


def _section(document: Document, key: str) -> Document:
    """The map under `key`, or an empty one where the job has not come that far."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _counts(counts: object) -> dict[str, int] | None:
    """Counts sorted by outcome, so that equal results are equal as text."""
    return {str(k): int(v) for k, v in sorted(counts.items())} if isinstance(counts, Mapping) else None


def _rounds(summary: Document) -> int | dict[str, float] | None:
    """Rounds per shot: one number, or {min, mean, max} where the branches of a program differ."""
    low, high = _section(summary, "min").get("rounds"), _section(summary, "max").get("rounds")
    if low is None or high is None:
        return None
    if low == high:
        return int(low)
    total = _section(summary, "sum")
    accepted = total.get("shots_accepted", 0)
    if not accepted or "rounds_total" not in total:
        return {"min": low, "max": high}
    return {"min": low, "mean": round(total["rounds_total"] / accepted, 3), "max": high}


def _assumptions(job: Document) -> list[str]:
    """What the components assumed on the way, each once, in the order of the operations."""
    found: dict[str, None] = {}
    for facts in _section(job, "facts").values():
        for assumption in facts.get("assumptions") or []:
            found[str(assumption)] = None
    return list(found)


def _versions(job: Document) -> tuple[dict[str, str], bool]:
    """Package versions as the components reported them, and whether they agree with one another."""
    versions: dict[str, str] = {"qcosd": __version__}
    consistent = True
    reports: list[Any] = [job.get("versions"), _section(_section(job, "summary"), "same").get("versions")]
    reports += [facts.get("versions") for facts in _section(job, "facts").values()]
    for report in reports:
        for package, version in (report or {}).items():
            consistent = consistent and versions.setdefault(str(package), str(version)) == str(version)
    return dict(sorted(versions.items())), consistent


def latency_percentiles(buckets: Document) -> dict[str, float | None] | None:
    """`{"p50", "p99", "p999"}` in microseconds from `{upper edge of a bucket: n}`, or None where nothing was timed.

    A percentile is the upper edge of the bucket that holds it: at most one bucket too high, never too low. In the
    open bucket (`inf`) no edge is known: null.
    """
    edges = sorted((float(label), int(n)) for label, n in buckets.items() if n)
    if not edges:
        return None
    total = sum(n for _, n in edges)
    found: dict[str, float | None] = {}
    for name, share in PERCENTILES:
        seen = 0
        for edge, n in edges:
            seen += n
            if seen >= share * total:
                found[name] = None if math.isinf(edge) else int(edge) if edge.is_integer() else edge
                break
    return found


def describe(document: Document) -> str:
    """The public document as text for a person: what came out first, how it came about after it."""
    lines = [f"job {document.get('job')}: {document.get('state')}"]
    if document.get("cause"):
        lines[0] += f" ({document['cause']})"
    if document.get("error"):
        lines += ["", describe_error(document["error"])]
    counts = document.get("counts")
    if counts:
        lines += ["", "counts (" + _bit_names(document) + ")", *_table(counts, document.get("counts_undecoded"))]
    elif "target" in document:
        lines += [f"  {kind}  {digest}" for kind, digest in document["artifacts"].items()]
    if document.get("state") == "done":
        lines += ["", *(f"{name:<11} {text}" for name, text in _particulars(document) if text)]
    return "\n".join(lines)


def describe_error(error: Document) -> str:
    """One line for an error: its message, its details (a counter-offer stands there), then what led to it."""
    text = f"{error.get('name', 'error')}: {error.get('message', '')}".rstrip(": ")
    details = error.get("details")
    if isinstance(details, Mapping) and details:
        text += " (" + ", ".join(f"{key} {value}" for key, value in details.items()) + ")"
    for earlier in error.get("chain") or []:
        earlier_text = describe_error(earlier) if isinstance(earlier, Mapping) else str(earlier)
        text += f"\n  because {earlier_text}"
    return text


def _bit_names(document: Document) -> str:
    registers = document.get("registers") or {}
    return " ".join(f"{name}[0..{size - 1}]" if size > 1 else f"{name}[0]" for name, size in registers.items())


def _table(counts: Mapping[str, int], undecoded: Mapping[str, int] | None) -> Iterable[str]:
    """Outcomes, most frequent first, beside what the same shots read without any decoding."""
    total = sum(counts.values())
    raw = undecoded or {}
    outcomes = sorted(set(counts) | set(raw), key=lambda outcome: (-counts.get(outcome, 0), outcome))
    width = max(len("outcome"), *(len(outcome) for outcome in outcomes))
    yield f"  {'outcome':<{width}}  {'decoded':>9}  {'share':>7}" + (f"  {'undecoded':>9}" if raw else "")
    for outcome in outcomes[:MAX_TABLE_ROWS]:
        n = counts.get(outcome, 0)
        yield f"  {outcome:<{width}}  {n:>9}  {n / total:>7.1%}" + (f"  {raw.get(outcome, 0):>9}" if raw else "")
    if len(outcomes) > MAX_TABLE_ROWS:
        yield f"  and {len(outcomes) - MAX_TABLE_ROWS} more outcomes (--json shows all)"


def _particulars(document: Document) -> Iterable[tuple[str, str]]:
    """(name, text) of what a reader wants to know of a finished job; an empty text is left out."""
    if "counts" in document:
        yield "shots", _phrase(document, _shots(document) + ", seed {seed}")
        yield "discarded", _discarded(document)
        yield "restarted", f"{document['shots_restarted']} shots" if document.get("shots_restarted") else ""
        yield "missing", _missing(document)
        yield "hardware", document.get("hardware") or ""
        if "logical_errors" in document:
            yield "experiment", _phrase(document, "{experiment}")
            yield "errors", _phrase(document, "{logical_errors} logical, rate {logical_error_rate}")
        else:
            yield "code", _phrase(document, "distance {distance}, noise {noise}, prior {prior}")
        yield "rounds", _rounds_text(document.get("rounds"))
        window = document.get("window")
        yield "window", _window(window) if window else ""
        yield "syndrome", _phrase(document, "{detectors} detectors, {detection_events} detection events in all shots")
        yield "decoder", _phrase(document, "{decoder}")
        yield "shadow", _shadow_text(document.get("shadow"))
        yield "calibrated", _drift(document)
        for name in ("latency", "lateness", "reaction"):
            times = document.get(f"{name}_us")
            yield name, ", ".join(f"{share} {us} us" for share, us in times.items() if us) if times else ""
        yield "stalled", f"{document['stall_rounds']} rounds" if document.get("stall_rounds") else ""
    seconds = document.get("seconds") or {}
    yield "time", ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items() if value is not None)
    if document.get("restarts"):
        yield "restarts", str(document["restarts"])
    yield "degraded", "; ".join(map(str, document.get("degraded") or []))
    yield "verified", ", ".join(document.get("verified") or [])
    yield "assumed", "; ".join(document.get("assumptions") or [])


def _shadow_text(shadow: Document | None) -> str:
    if shadow is None:
        return ""
    names = {"agreed": "agree", "differed": "differ", "lost": "were not seen to the end"}
    batches = ", ".join(f"{shadow[key]} {text}" for key, text in names.items() if shadow[key])
    shots = f", in {shadow['shots']} shots at least" if shadow["differed"] else ""
    return f"{shadow['decoder']}: of the batches {batches}{shots}" if batches else str(shadow["decoder"])


def _phrase(document: Document, pattern: str) -> str:
    return pattern.format_map({key: "?" if value is None else value for key, value in document.items()})


def _shots(document: Document) -> str:
    """A pattern: how many shots were asked for, and how many came of them where these are fewer."""
    asked, accepted = document.get("shots") or 0, document.get("shots_accepted") or 0
    return "{shots_accepted} of {shots}" if 0 < accepted < asked else "{shots}"


def _discarded(document: Document) -> str:
    """How many shots count in no total, and why."""
    if not document.get("shots_discarded"):
        return ""
    reasons = ", ".join(f"{reason} {n}" for reason, n in sorted((document.get("discards") or {}).items()))
    return f"{document['shots_discarded']} shots" + (f" ({reasons})" if reasons else "")


def _missing(document: Document) -> str:
    """Records and rounds that never came, or came late."""
    names = {"records_missing": "records", "rounds_lost": "rounds lost", "rounds_late": "rounds late"}
    found = [f"{document[key]} {name}" for key, name in names.items() if document.get(key)]
    if found and document.get("erasures"):
        found.append(f"missing records are {document['erasures']}")
    return ", ".join(found)


def _drift(document: Document) -> str:
    """Said only where the batches had more than one calibration."""
    used = document.get("calibrations") or {}
    return f"{len(used)} calibrations in {sum(used.values())} shots" if len(used) > 1 else ""


def _window(window: Mapping[str, Any]) -> str:
    scheme = window.get("scheme", "sliding")
    return f"commit {window.get('commit')}, buffer {window.get('buffer')}" + (
        "" if scheme == "sliding" else f", {scheme}"
    )


def _rounds_text(rounds: int | Document | None) -> str:
    if rounds is None:
        return ""
    if isinstance(rounds, int):
        return f"{rounds} per shot"
    return ", ".join(f"{name} {value}" for name, value in rounds.items()) + " per shot"
