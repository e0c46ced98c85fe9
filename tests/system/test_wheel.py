# SPDX-License-Identifier: Apache-2.0
"""What `pip install` puts on a machine: every module, manifest, device, example and unit of the checkout."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED_NAME = {"qcosd": "qcosd", "plugins": "qcos_plugins"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of a copy of the checkout: building leaves files beside the sources."""
    place = tmp_path_factory.mktemp("wheel")
    copy = place / "checkout"
    left_out = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, copy, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "--wheel-dir", place, copy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = place.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_every_module_and_manifest_is_in_it(wheel: zipfile.ZipFile) -> None:
    expected = {
        "/".join((INSTALLED_NAME[top], *path.relative_to(ROOT / top).parts))
        for top in INSTALLED_NAME
        for pattern in ("*.py", "plugin.toml", "py.typed")
        for path in (ROOT / top).rglob(pattern)
    }
    assert expected <= set(wheel.namelist())
    assert len(expected) > 50


@pytest.mark.parametrize("folder", ["devices", "examples"])
def test_devices_and_examples_are_shared(wheel: zipfile.ZipFile, folder: str) -> None:
    shared = {Path(name).name for name in wheel.namelist() if f"/share/qcos/{folder}/" in name}
    assert shared == {path.name for path in (ROOT / "etc" / folder).iterdir()}


def test_both_commands_are_entry_points(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(wheel.read(name).decode())
    assert dict(points["console_scripts"]) == {"qcosd": "qcosd.shell.main:main", "qcosctl": "qcosd.ctl.main:main"}
