# SPDX-License-Identifier: Apache-2.0
"""Configuration and manifests from TOML files."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from qcosd.core.manifest import Manifest, ManifestError, Operation, ProcessLimits, Restart, StopLadder
from qcosd.shell.config import Config, ConfigError, find_config, load_config
from qcosd.shell.manifest import find_manifests, read_manifest

ANNOTATED = Path(__file__).parents[2] / "etc" / "qcosd.toml"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_annotated_file_is_the_defaults_and_names_every_key() -> None:
    assert load_config(ANNOTATED) == load_config(None) == Config()
    document = tomllib.loads(ANNOTATED.read_text(encoding="utf-8"))
    for name, section in document.items():
        assert set(section) == {f.name for f in dataclasses.fields(getattr(Config(), name))}
    assert set(document) | {"plugin"} == {f.name for f in dataclasses.fields(Config)}


def test_values_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.toml",
        '[bus]\nheartbeat = 3\n[plugins]\ndirs = ["/opt/p"]\n[limits]\nrequests = 7\n[plugin.hello]\nword = {a = [1]}\n',
    )
    config = load_config(path)
    assert config.bus.heartbeat == 3.0 and type(config.bus.heartbeat) is float
    assert config.plugins.dirs == ("/opt/p",)
    assert config.limits.requests == 7
    assert config.plugin == {"hello": {"word": {"a": [1]}}}


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("colour = 1", "unknown key 'colour'"),
        ("[bus]\ncolour = 1", "unknown key 'bus.colour'"),
        ("[bus]\nheartbeat = 'often'", "'bus.heartbeat' is not a number"),
        ("[bus]\nclient_send_queue = true", "'bus.client_send_queue' is not a whole number"),
        ("[bus]\nclient_send_queue = 1.5", "'bus.client_send_queue' is not a whole number"),
        ("[bus]\nclient_send_queue = 0", "'bus.client_send_queue' is not positive"),
        ("[limits]\nrequests = 300", "'bus.client_send_queue' is less than twice 'limits.requests'"),
        ("[bus]\nclient_send_queue = 10_000_000", "'bus.client_send_queue' is more than"),
        ("[bus]\nheartbeat = nan", "'bus.heartbeat' is not a number"),
        ("[limits]\nageing_period = inf", "'limits.ageing_period' is not a number"),
        ("[plugin.hello]\nsince = 2026-01-01", "'plugin.hello.since' is no text"),
        ("[plugin.hello]\nx = [{ n = 0x1_0000_0000_0000_0000 }]", "'plugin.hello.x[0].n' is no text"),
        ("[limits]\nbatch = -1", "'limits.batch' is not positive"),
        ("[plugins]\ndirs = '/opt'", "'plugins.dirs' is not a list of strings"),
        ("[plugins]\ndirs = [1]", "'plugins.dirs' is not a list of strings"),
        ("[logs]\nmax_bytes = 1", "'logs' needs"),
        ("[processes]\nlook = 0", "'processes.look' is less than"),
        ("bus = 1", "'bus' is not a table"),
        ("[plugin]\nhello = 1", "'plugin' is not a table of tables"),
        ("[bus]\n=", "line 2"),
    ],
)
def test_what_is_not_understood_is_refused_with_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path / "c.toml", text)
    with pytest.raises(ConfigError, match=re.escape(complaint)) as refusal:
        load_config(path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.toml"):
        load_config(tmp_path / "binary.toml")


def test_where_the_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = write(tmp_path / "qcos" / "qcosd.toml", "")
    assert find_config(None, embedded=False) == own
    assert find_config(None, embedded=True) is None
    assert find_config(Path("x.toml"), embedded=True) == Path("x.toml")


MANIFEST = """
name = "tracker"
version = "0.1.0"
protocol = 1
argv = ["{python}", "-m", "tracker"]
description = "Decodes"
rank = 3
needs = ["hardware"]
rights = ["fault"]
readiness_timeout = 12
[restart]
policy = "never"
backoff_max = 4
[stop]
ask = 1
[limits]
memory_mb = 100
[[operation]]
service = "track"
op = "run"
consumes = ["fragments", "calibration"]
produces = ["counts"]
each = "batch"
stream_in = "rounds"
preempt = "boundary"
[[operation]]
service = "track"
op = "check"
"""


def test_a_manifest(tmp_path: Path) -> None:
    path = write(tmp_path / "tracker" / "plugin.toml", MANIFEST)
    assert read_manifest(path) == Manifest(
        name="tracker", version="0.1.0", argv=("{python}", "-m", "tracker"), description="Decodes", rank=3, needs=("hardware",),
        rights=("fault",), readiness_timeout=12.0, restart=Restart(policy="never", backoff_max=4.0), stop=StopLadder(ask=1.0),
        limits=ProcessLimits(memory_mb=100), folder=str(tmp_path / "tracker"),
        operations=(
            Operation("track", "run", ("fragments", "calibration"), ("counts",), (), "batch", "rounds", preempt="boundary"),
            Operation("track", "check"),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("rank = 3", "rnk = 3", "unknown key 'rnk'"),
        ("rank = 3", "folder = '/etc'", "unknown key 'folder'"),
        ("rank = 3", "rank = '3'", "'rank' is not a whole number"),
        ('version = "0.1.0"', "", "key 'version' is missing"),
        ('name = "tracker"', 'name = "../up"', "name: '../up'"),
        ("backoff_max = 4", "backof_max = 4", "unknown key 'restart.backof_max'"),
        ('policy = "never"', 'policy = "perhaps"', "restart.policy"),
        ('op = "check"', 'op = "check"\ncolour = 1', "unknown key 'operation[1].colour'"),
        ('op = "check"', "", "key 'operation[1].op' is missing"),
        ('each = "batch"', 'each = "week"', "operation.each"),
        ("[stop]", "[[stop]]", "'stop' is not a table"),
        ("[limits]", "[limits", "Expected"),
    ],
)
def test_manifests_are_refused_with_file_and_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in MANIFEST
    path = write(tmp_path / "plugin.toml", MANIFEST.replace(old, new))
    with pytest.raises(ManifestError, match=re.escape(complaint)) as refusal:
        read_manifest(path)
    assert str(refusal.value).startswith(f"{path}: ")


def small(name: str, version: str = "1") -> str:
    return f'name = "{name}"\nversion = "{version}"\nargv = ["x"]\n'


def test_a_site_replaces_and_disables(tmp_path: Path) -> None:
    system, extra = tmp_path / "system", tmp_path / "extra"
    write(system / "a" / "plugin.toml", small("zz-a"))
    write(system / "b" / "plugin.toml", small("zz-b"))
    write(extra / "plugin.toml", small("zz-a", "2"))  # the directory of one plugin
    found = {m.name: m.version for m in find_manifests([extra], [system, tmp_path / "absent"], ["zz-b"])}
    assert found["zz-a"] == "2" and "zz-b" not in found
    assert list(found) == sorted(found)
    with pytest.raises(ManifestError, match="no such plugin directory"):
        find_manifests([tmp_path / "absent"], [])
    with pytest.raises(ManifestError, match="there is no plugin 'zz-c'"):
        find_manifests([], [system], ["zz-c"])


def test_two_plugins_of_one_name_in_one_directory_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "plugin.toml", small("same"))
    write(tmp_path / "b" / "plugin.toml", small("same"))
    with pytest.raises(ManifestError, match=r"b/plugin\.toml: 'name' 'same' is taken by .*/a"):
        find_manifests([tmp_path], [])


def test_the_shipped_manifests_are_understood() -> None:
    assert {"hello"} <= {manifest.name for manifest in find_manifests([], [])}
