# SPDX-License-Identifier: Apache-2.0
"""The shape of the code is a promise: who may import whom, what the core may know, how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400

# A package may import from these packages of ours, and from itself.
ARROWS: dict[str, set[str]] = {
    "qcosd.schema": set(),
    "qcosd.errors": set(),
    "qcosd.messages": {"qcosd.schema"},
    "qcosd.protocol": {"qcosd.schema", "qcosd.errors", "qcosd.messages"},
    "qcosd.frames": set(),
    "qcosd.core": {"qcosd.protocol", "qcosd.schema"},
    "qcosd.shell": {"qcosd.protocol", "qcosd.schema", "qcosd.frames", "qcosd.core"},
    "qcosd.sdk": {"qcosd.protocol", "qcosd.frames"},
    "qcosd.ctl": {"qcosd.protocol", "qcosd.sdk"},
    "qcosd.qec": set(),
    "qcos_plugins": {"qcosd.sdk", "qcosd.qec"},
}
# The testing kit of the SDK runs the real kernel without sockets: the one file that looks inward.
EXCEPTIONS = {("qcosd/sdk/testing.py", "qcosd.core"), ("qcosd/sdk/testing.py", "qcosd.shell")}

IMPURE = {
    "asyncio", "concurrent", "ctypes", "datetime", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib",
    "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile",
    "threading", "time", "uvloop", "zmq",
}  # fmt: skip
QUANTUM = {"numpy", "scipy", "stim", "pymatching", "pytket", "networkx", "pyzx", "pygridsynth", "openqasm3"}


def sources(*tops: str) -> list[Path]:
    return sorted(p for top in tops for p in (ROOT / top).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere, lazily included; `from x import y` counts as x.y and x."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def package(module: str) -> str | None:
    """The package of ours that a module belongs to, as `ARROWS` names it."""
    return next((name for name in ARROWS if module == name or module.startswith(name + ".")), None)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("qcos_plugins", *parts[1:]) if parts[0] == "plugins" else parts)


@pytest.mark.parametrize("path", sources("qcosd", "plugins"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    own = package(module_of(path))
    if own is None:  # qcosd/__init__.py
        assert not {m for m in imports(path) if package(m)}
        return
    for module in imports(path):
        target = package(module)
        if target is None or target == own or (str(path.relative_to(ROOT)), target) in EXCEPTIONS:
            continue
        assert target in ARROWS[own], f"{path.relative_to(ROOT)} imports {module}: {own} must not know {target}"


@pytest.mark.parametrize("path", sources("plugins"), ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_do_not_call_each_other(path: Path) -> None:
    own = module_of(path).split(".")[1] if len(module_of(path).split(".")) > 1 else ""
    others = {m for m in imports(path) if m.startswith("qcos_plugins.") and m.split(".")[1] != own}
    assert not others, f"components are aggregated, not stacked: {others}"


@pytest.mark.parametrize("path", sources("qcosd/core"), ids=lambda p: p.name)
def test_core_is_pure(path: Path) -> None:
    assert not {m.split(".")[0] for m in imports(path)} & IMPURE
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize(
    "path", [p for p in sources("qcosd") if "qec" not in p.parts], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_kernel_imports_no_quantum_library(path: Path) -> None:
    assert not {m.split(".")[0] for m in imports(path)} & QUANTUM


@pytest.mark.parametrize("path", sources("qcosd", "plugins"), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_can_be_read_at_one_sitting(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines: split it by noun"


@pytest.mark.parametrize("path", sources("qcosd", "plugins", "tests"), ids=lambda p: str(p.relative_to(ROOT)))
def test_sources_carry_the_licence_and_no_utils(path: Path) -> None:
    text = path.read_text()
    assert not text or text.startswith(("# SPDX-License-Identifier: Apache-2.0", "#!")), path
    assert "util" not in path.stem, f"{path}: name the noun"


def test_the_kernel_stays_small() -> None:
    total = sum(p.read_text().count("\n") for p in sources("qcosd/core"))
    # Of these 350 are for aides, workers that help running batches, and their recovery; 90 for batches that are leased ahead.
    assert total <= 7100, f"qcosd/core has {total} lines; it is meant to be read in an afternoon"
