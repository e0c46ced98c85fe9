# SPDX-License-Identifier: Apache-2.0
"""Configuration and manifests, checked by the daemon's own reader without starting it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcosd.ctl import failure
from qcosd.ctl.main import call


def test_what_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "qcosd.toml"
    file.write_text("[limits]\njobs_kept = 7\n[plugins]\ndisable = ['hello']\n")
    assert call(["config", "check", "--config", str(file), "--json"]) == failure.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["config"] == str(file)
    names = [row["name"] for row in found["plugins"]]
    assert "stim_adapter" in names and "hello" not in names
    assert call(["config", "show", "--config", str(file)]) == failure.DONE
    shown = capsys.readouterr().out.splitlines()
    assert "limits.jobs_kept = 7" in shown
    assert "limits.attempts = 5" in shown, "also what stands at its default"


def test_what_is_not_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "qcosd.toml"
    file.write_text("[limits]\njobs_kep = 7\n")
    assert call(["config", "check", "--config", str(file)]) == failure.USAGE
    assert capsys.readouterr().err == f"qcosctl: {file}: unknown key 'limits.jobs_kep'\n"
    plugin = tmp_path / "plugins" / "mine"
    plugin.mkdir(parents=True)
    (plugin / "plugin.toml").write_text('name = "mine"\n')
    assert call(["config", "check", "--plugin-dir", str(plugin.parent), "--json"]) == failure.USAGE
    assert f"{plugin / 'plugin.toml'}: key 'version' is missing" in capsys.readouterr().err
