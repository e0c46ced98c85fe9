# SPDX-License-Identifier: Apache-2.0
"""Structures on disk: what one process has built, another one finds, or builds again where anything is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sampled
from qcos_plugins.matching_tracker import cache
from qcos_plugins.matching_tracker.ahead import prepare
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.disk import Disk, default_directory
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.structure import Structure, WrongFragments
from test_matching_tracker_soundness import spoiled
from test_matching_tracker_structure import PROGRAMS, RATES, locals_of

from qcosd.qec.calibration import Calibration

PROGRAM = sampled.hadamards(3, "X")
BUILT = 3  # structures of it


def built(directory: Path, rates: Calibration = RATES) -> TemplateCache:
    """The cache of a process that has prepared the program."""
    templates = TemplateCache(disk=Disk(directory))
    prepare(Plans(PROGRAM, rates, templates=templates), lambda count: None)
    return templates


def counts(templates: TemplateCache) -> tuple[int, int]:
    return templates.misses, templates.loaded


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_structure_is_read_as_it_was_written(name: str) -> None:
    for local, commit, end in locals_of(PROGRAMS[name](3), 3):
        first = Structure.of(local, commit, end, join=True)
        second = Structure.from_bytes(first.to_bytes())
        for field in ("columns", "gauges", "detectors", "artifacts", "edges", "missing", "unseen", "classes", "size"):
            assert getattr(second, field) == getattr(first, field), field
        assert type(second.edges[0]) is type(first.edges[0])
        rates = [1e-3 * (1 + i) for i in range(len(first.classes))]
        p = first.flips.probabilities(rates)
        assert np.array_equal(second.flips.probabilities(rates), p)
        assert np.array_equal(second.company.bound(p, 0.1), first.company.bound(p, 0.1))


def test_a_structure_with_rates_of_single_sites_is_read_as_it_was_written(tmp_path: Path) -> None:
    rates = Calibration(*[1e-3] * 6, sites={(1, 1): {"measure": 0.02}, (4, 2): {"cx": 0.01}})
    first, second = built(tmp_path / "t", rates), built(tmp_path / "t", rates)
    assert counts(second) == (0, first.misses)
    assert counts(built(tmp_path / "t")) != (0, first.misses)


def test_another_process_finds_what_was_built(tmp_path: Path) -> None:
    assert counts(built(tmp_path / "deep" / "t")) == (BUILT, 0)
    templates = built(tmp_path / "deep" / "t")
    assert counts(templates) == (0, BUILT)
    recording = sampled.record(PROGRAM, 3e-3, 500)
    found = sampled.track(recording, templates=templates)
    assert found.templates_missed == 0
    assert np.array_equal(found.bits, sampled.track(recording).bits)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
    ],
    ids=["cut", "empty", "bit", "digest"],
)
def test_a_damaged_file_is_built_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    built(tmp_path / "t")
    victim = sorted((tmp_path / "t").iterdir())[0]
    whole = victim.read_bytes()
    victim.write_bytes(damage(whole))
    assert counts(built(tmp_path / "t")) == (1, BUILT - 1)
    assert victim.read_bytes() == whole
    assert counts(built(tmp_path / "t")) == (0, BUILT)


def test_a_file_under_the_name_of_another_is_damaged(tmp_path: Path) -> None:
    built(tmp_path / "t")
    first, second, *_ = sorted((tmp_path / "t").iterdir())
    second.write_bytes(first.read_bytes())
    assert counts(built(tmp_path / "t")) == (1, BUILT - 1)


def test_what_other_software_has_built_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tmp_path / "t")
    now = cache._software()
    assert len(now) == 6
    monkeypatch.setattr(cache, "_software", lambda: (*now[:-1], "changed"))
    assert counts(built(tmp_path / "t")) == (BUILT, 0)


def test_windows_that_are_refused_are_refused_again(tmp_path: Path) -> None:
    program = spoiled(PROGRAM, lambda detector: None)
    for _ in range(2):
        templates = TemplateCache(disk=Disk(tmp_path / "t"))
        with pytest.raises(WrongFragments):
            prepare(Plans(program, RATES, templates=templates), lambda count: None)
    assert not (tmp_path / "t").exists()


def test_the_least_recently_used_files_go(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "t", bound=3 * (1000 + 32))
    keys = [bytes([i]) * 4 for i in range(5)]
    for age, key in enumerate(keys[:3]):
        disk.put(key, b"x" * 1000)
        os.utime(tmp_path / "t" / key.hex(), ns=(age, age))
    assert disk.get(keys[0]) == b"x" * 1000
    disk.put(keys[3], b"y" * 1000)
    assert [disk.get(key) is not None for key in keys[:4]] == [True, False, True, True]


@pytest.mark.parametrize("spoil", [lambda path: path.chmod(0o777), lambda path: os.chown(path, 12345, -1)])
def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    built(tmp_path / "t")
    try:
        spoil(tmp_path / "t")
    except PermissionError:
        pytest.skip("only root gives directories away")
    assert counts(built(tmp_path / "t")) == (BUILT, 0)


def test_without_a_directory_everything_is_built(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert counts(built(tmp_path / "file" / "t")) == (BUILT, 0)


WRITER = """
import sys
from pathlib import Path
from qcos_plugins.matching_tracker.disk import Disk
disk = Disk(Path(sys.argv[1]), bound=40_000)
for turn in range(300):
    key = bytes([turn % 20])
    data = disk.get(key)
    assert data in (None, key * 5000), "torn"
    disk.put(key, key * 5000)
"""


def test_processes_may_write_at_the_same_time(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "t")]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert 0 < sum(file.stat().st_size for file in (tmp_path / "t").iterdir()) <= 40_000
    assert all(len(file.name) == 2 for file in (tmp_path / "t").iterdir()), "nothing is left aside"


def test_the_directory_is_the_services_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/mine:/var/cache/other")
    assert default_directory() == Path("/var/cache/mine/templates")
    monkeypatch.delenv("CACHE_DIRECTORY")
    assert default_directory() == tmp_path / "qcos" / "templates"
