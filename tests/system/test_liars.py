# SPDX-License-Identifier: Apache-2.0
"""Lying plugins of third parties, one for each service, preferred to the shipped ones: each lie is found, the liar is named,
and the job ends with the right answer by others; where there are no others, it fails and names the liar."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system_world import PATIENCE, DaemonWorld, World

from qcosd.sdk.client import BlockingClient

HERE = Path(__file__).parent / "liars"
sys.path.insert(0, str(HERE))
from liar import SHIPPED  # noqa: E402

PLUGINS = Path(__file__).parents[2] / "plugins"

# 1 and 0 for certain; signs, phases, bits and idles all matter.
SOURCE = b"""OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[2];
h q[0];
s q[0];
barrier q;
id q[1];
barrier q[0];
id q[1];
barrier q;
z q[0];
sdg q[0];
h q[0];
cx q[0], q[1];
barrier q;
x q[1];
measure q -> c;
"""
ANSWER = "10"
QUIET = {"noise": 0, "distance": 3, "shots": 64}
NOISY = {"noise": 0.0015, "distance": 3, "shots": 256}

# lie: service, options, words of the finding
LIES = {
    "lost_gate": ("compile", QUIET, "logical"),
    "crossed_bits": ("compile", QUIET, "logical"),
    "lost_sign": ("optimise", QUIET, "optimised"),
    "merged_idle": ("optimise", QUIET, "idle"),
    "missing_detectors": ("qecc", QUIET, "no detector looks"),
    "half_detectors": ("qecc", QUIET, "odd without noise"),
    "other_basis": ("qecc", QUIET, "fragments"),
    "no_frames": ("qecc", QUIET, "rules out"),
    "other_bits": ("qecc", QUIET, "rules out"),
    "off_the_chip": ("map", QUIET, "has no site"),
    "a_site_too_few": ("map", QUIET, "has no site"),
    "odd_shift": ("map", QUIET, "swaps data and measure sites"),
    "skipped_round": ("hardware", QUIET, "stream `rounds`"),
    "repeated_block": ("hardware", QUIET, "stream `rounds`"),
    "wrong_m": ("hardware", QUIET, "stream `rounds`"),
    "random_bits": ("hardware", NOISY, "detectors fire"),
    "rosy_calibration": ("hardware", NOISY, "detectors fire"),
    "no_calibration": ("hardware", NOISY, "nothing can be decoded"),
    "undecoded": ("track", NOISY, "come out otherwise"),
    "undecoded_table": ("track", NOISY, "as bad as undecoded"),
    "one_more": ("track", QUIET, "add up to"),
    "short_keys": ("track", QUIET, "form of registers"),
    "other_summary": ("track", QUIET, "something else: counts"),
    "accuses_strangers": ("verify", QUIET, "does not say of what"),
}


def manifest(service: str) -> str:
    """That of the shipped plugin, with another name and a higher rank."""
    shipped, operations = SHIPPED[service]
    text = tomllib.loads((PLUGINS / shipped / "plugin.toml").read_text())
    lines = [
        f'name = "liar_{service}"',
        'version = "1"',
        "protocol = 1",
        f'argv = ["{{python}}", "{HERE / "liar.py"}", "{service}"]',
        "rank = 5",
        'settings = ["lie"]',
        "readiness_timeout = 60.0",
        "[restart]",
        "backoff_base = 0.01",
        "backoff_max = 0.01",
        "max_deaths = 1000",
    ]
    for operation in text["operation"]:
        if operation["op"] in operations:
            lines.append("[[operation]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in operation.items()]
    return "\n".join(lines) + "\n"


class Court:
    """A daemon with a liar for each service."""

    def __init__(self, daemon: DaemonWorld) -> None:
        self.daemon = daemon
        self.client = BlockingClient(daemon.runtime, connect_grace=PATIENCE)
        self.client.connect()
        self.source = self.client.put(SOURCE)

    def job(self, lie: str, **options: Any) -> dict[str, Any]:
        job = self.client.submit({"seed": 5, "set": {"lie": lie}, **options}, {"source": self.source})
        self.client.wait(job, timeout=PATIENCE)
        return self.client.job(job)


@pytest.fixture
def court(world: World) -> Iterator[Court]:
    folder = world.home / "liars"
    for service in SHIPPED:
        (folder / service).mkdir(parents=True)
        (folder / service / "plugin.toml").write_text(manifest(service))
    daemon = DaemonWorld(world.home, world.mark)
    daemon.start("--plugin-dir", folder)
    try:
        court = Court(daemon)
        yield court
        court.client.close()
        assert daemon.stop() == 0, daemon.log()
    finally:
        assert daemon.process is not None
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def right(document: dict[str, Any], noise: float) -> None:
    counts = document["summary"]["sum"]["counts"]
    total = sum(counts.values())
    assert total == document["options"]["shots"]
    assert counts.get(ANSWER, 0) > (0.85 if noise else 0.999) * total, counts


@pytest.mark.slow
def test_every_liar_is_found_and_others_finish_its_jobs(court: Court) -> None:
    honest = court.job("none", **QUIET)
    assert (honest["state"], honest["degraded"]) == ("done", [])
    assert set(honest["verified"]) == {"logical", "optimised", "fragments", "placement", "calibration", "counts"}
    assert all(
        provider.startswith("liar_") for name, provider in honest["plan"]["providers"].items() if "verify" not in name
    )
    right(honest, 0)
    for lie, (service, options, words) in LIES.items():
        document = court.job(lie, **options)
        assert document["state"] == "done", (lie, document["error"])
        taken_over = [text for text in document["degraded"] if f"took over from liar_{service}" in text]
        assert taken_over and words in " ".join(taken_over), (lie, document["degraded"])
        assert not any("took over" in text and f"liar_{service}" not in text for text in document["degraded"]), lie
        right(document, options["noise"])


@pytest.mark.long
def test_a_job_that_has_only_the_liar_fails_and_names_it(court: Court) -> None:
    for lie, (service, options, words) in LIES.items():
        if service == "verify":
            continue  # a job goes on without checks
        document = court.job(lie, use={service: f"liar_{service}"}, **options)
        assert document["state"] == "failed", lie
        assert document["error"]["name"] == "wrong_output"
        assert f"liar_{service}" in document["error"]["message"], (lie, document["error"])
        assert words in document["error"]["message"], (lie, document["error"])


@pytest.mark.slow
def test_a_verifier_is_believed_and_named(court: Court) -> None:
    """Whom it has accused wrongly is out of the job, and the next provider too; the reason says who refused whom."""
    document = court.job("false_accusation", **QUIET)
    assert document["state"] == "failed"
    for word in ("verify.logical by liar_verify", "liar_compile", "pytket_compile"):
        assert word in document["error"]["message"] + str(document["error"]), document["error"]
    # Whoever knows better chooses another verifier, or none.
    assert court.job("false_accusation", use={"verify": "verifier"}, **QUIET)["state"] == "done"
    unseen = court.job("false_accusation", verify=False, **QUIET)
    assert (unseen["state"], unseen["verified"]) == ("done", [])
    alone = court.job("accuses_strangers", use={"verify": "liar_verify"}, **QUIET)
    assert alone["state"] == "done" and any("logical: not verified" in text for text in alone["degraded"])
    right(alone, 0)
