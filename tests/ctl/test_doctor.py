# SPDX-License-Identifier: Apache-2.0
"""What the doctor makes of what the daemon says."""

from __future__ import annotations

from typing import Any

from qcosd.ctl.doctor import LOW_SPACE, findings

WELL = {
    "state": "ready",
    "plugins": {"a": "ready", "b": "ready"},
    "jobs": {"held": 0},
    "journal": {"position": 9, "fault": "", "rolled_back": ""},
    "space": {"free": LOW_SPACE, "total": 1 << 40},
}


def instance(name: str, state: str, cause: str | None = None) -> dict[str, Any]:
    return {"name": name, "state": state, "cause": cause}


def names(status: dict[str, Any], *plugins: dict[str, Any], held: tuple[dict[str, Any], ...] = ()) -> list[str]:
    return [f"{row['name']} {row['subject']}" for row in findings({**WELL, **status}, plugins, held)]


def test_nothing_is_wrong() -> None:
    assert names({}) == []
    assert findings({"state": "ready", "plugins": {}, "jobs": {}}, [], []) == [], "an older daemon says less"


def test_storage_comes_first() -> None:
    status = {
        "journal": {"position": 9, "fault": "disk full", "rolled_back": "ends at 3"},
        "space": {"free": LOW_SPACE - 1, "total": 1 << 40},
        "plugins": {"a": "waiting"},
    }
    assert names(status, instance("a", "waiting", "waits for service x")) == [
        "rolled_back the journal", "journal the journal", "space the state directory", "plugin_restarting a",
    ]  # fmt: skip
    assert findings({**WELL, **status}, [], [])[2]["cause"] == "511 of 1048576 MiB are free"


def test_plugins_that_do_not_serve() -> None:
    status = {"plugins": {"a": "failed", "b": "down", "c": "backoff", "d": "ready", "e": "ready"}}
    rows = [
        instance("a", "failed", "died 5 times"),
        instance("c", "backoff", "killed"),
        instance("e:2", "failed", "died"),
    ]
    assert names(status, *rows) == ["plugin_failed a", "plugin_down b", "plugin_restarting c", "plugin_failed e"]
    assert findings({**WELL, **status}, rows, [])[0]["cause"] == "died 5 times"
    fenced = {"plugins": {"b": "down"}, "journal": {"rolled_back": "ends at 3"}}
    assert names(fenced) == ["rolled_back the journal"], "the daemon itself has stopped them"


def test_held_jobs_are_counted_by_cause() -> None:
    held = tuple({"job": str(number), "cause": "x is away"} for number in range(9, 0, -1))
    assert names({}, held=(*held, {"job": "77", "cause": "y is away"})) == [
        "job_held job 9, 8, 7, 6, 5 and 4 more (held)", "job_held job 77 (held)",
    ]  # fmt: skip
    assert "`qcosctl job cancel 77`" in findings(WELL, [], held=[{"job": "77", "cause": "y is away"}])[0]["remedy"]
