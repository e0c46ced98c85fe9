# SPDX-License-Identifier: Apache-2.0
"""Programs on the second machine, through the whole system: `--use hardware=tableau_adapter`."""

from __future__ import annotations

from typing import Any

import pytest
from system_world import EXAMPLES, DaemonWorld, World
from test_programs import EXAMPLE_OUTCOMES

pytestmark = pytest.mark.slow

USE = ("--use", "hardware=tableau_adapter")


def run(world: World, program: str, *options: object) -> dict[str, Any]:
    done = world.ctl("run", EXAMPLES / f"{program}.qasm", *options, "--json")
    assert done.code == 0, done.err
    document: dict[str, Any] = done.document
    return document


def test_every_example_gives_exactly_its_outcomes(daemon: DaemonWorld) -> None:
    for name, outcomes in EXAMPLE_OUTCOMES.items():
        document = run(daemon, name, "--shots", 200, "--noise", 0, "--seed", 1, *USE)
        assert set(document["counts"]) == outcomes, name
        assert document["counts"] == document["counts_undecoded"]
        assert sum(document["counts"].values()) == 200
        assert document["detection_events"] == 0
        assert document["degraded"] == []


def test_the_machines_give_other_shots_and_the_same_promise(daemon: DaemonWorld) -> None:
    """Equal seeds give equal counts on one machine, and other ones on the other: so it really was the other."""
    options = ("--shots", 400, "--noise", 0.003, "--seed", 7)
    first, again = (run(daemon, "teleport", *options, *USE) for _ in range(2))
    slow = run(daemon, "teleport", *options, *USE, "--set", "credit=1", "--batch", 256)
    other = run(daemon, "teleport", *options)
    for document in (again, slow):
        assert document["counts_undecoded"] == first["counts_undecoded"]
        assert document["detection_events"] == first["detection_events"] > 0
    assert other["counts_undecoded"] != first["counts_undecoded"]
    assert {key: other[key] for key in ("rounds", "detectors", "calibration", "window", "decoder")} == {
        key: first[key] for key in ("rounds", "detectors", "calibration", "window", "decoder")
    }


@pytest.mark.parametrize("batch", [1, 64, 1024])
def test_branches_on_a_credit_of_one_in_batches_of_any_size(daemon: DaemonWorld, batch: int) -> None:
    """The machine runs 256 shots side by side: larger batches are cut."""
    shots = min(3 * batch, 600)
    options = ("--shots", shots, "--batch", batch, "--noise", 0.001, "--set", "credit=1", *USE)
    document = run(daemon, "branch", *options)
    assert sum(document["counts"].values()) == shots
    assert document["counts"].get("0 0", 0) + document["counts"].get("1 1", 0) > 0.95 * shots


def test_losses_are_asked_for_by_the_same_settings(daemon: DaemonWorld) -> None:
    losses = ("--seed", 1, "--set", "erasure=0.01", "--set", "discard=0.02")
    for use in ((), USE):
        document = run(daemon, "bell", "--shots", 300, "--noise", 0, "--prior", 0.001, *losses, *use)
        assert set(document["counts"]) == {"00", "11"}
        assert sum(document["counts"].values()) == 300  # what was discarded was run again
        assert document["shots_discarded"] > 0
