# SPDX-License-Identifier: Apache-2.0
"""Deliberate bugs, one at a time, each in a copy of the tree: the test suite must notice every one of them.

A bug is an exact piece of source and what stands there instead. The tests that it names are tried first, because they
are quick; only if they pass does the rest of `tests/qec` and `tests/plugins` get its chance. A bug that no test notices
is a hole in the suite, and the command fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "mutations" / "mutations.toml"
DOCUMENT = ROOT / "docs" / "MUTATIONS.md"
COPIED = ("qcosd", "plugins", "tests", "etc", "pyproject.toml")
EVERYTHING = ("tests/qec", "tests/plugins")
FAILED = 1  # pytest's exit code when tests ran and some failed; others mean that it could not run
LIMIT = 900.0  # seconds for a run of tests: a bug may also make a program wait for ever, which counts as noticed

HEAD = """\
# Deliberate bugs

What the tests are worth is what they notice. Each bug below is put, one at a time, into a copy of the tree; the test suite must fail.
`tools/mutation-check` does it, and fails when a bug survives; `.ci/run` runs it. The list is `tests/mutations/mutations.toml`, and a
test of the default run sees to it that each piece of source named there still exists.

| bug | file | what would go wrong | noticed by |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Mutation:
    """`old` stands exactly once in `file` and becomes `new`. `what`: the consequence. `tests`: tried first."""

    name: str
    file: str
    old: str
    new: str
    what: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text with the bug in it. Raises ValueError unless `old` stands there exactly once."""
        if (times := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: its source stands {times} times in {self.file}, once expected")
        return text.replace(self.old, self.new)


def mutations() -> list[Mutation]:
    """All of them, in the order of the list."""
    rows = tomllib.loads(LIST.read_text("utf-8"))["mutation"]
    return [Mutation(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def document() -> str:
    """docs/MUTATIONS.md."""
    rows = [f"| {m.name} | `{m.file}` | {m.what} | {', '.join(f'`{t}`' for t in m.tests)} |" for m in mutations()]
    return HEAD + "\n".join(rows) + "\n"


def noticed(mutation: Mutation) -> str:
    """Which tests noticed the bug, "" if none did."""
    with tempfile.TemporaryDirectory(prefix="qcos-mutation-") as name:
        copy = Path(name)
        for entry in COPIED:
            source = ROOT / entry
            if source.is_dir():
                shutil.copytree(source, copy / entry, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / entry)
        # The installed name of plugins/ is qcos_plugins; this folder goes before whatever is installed.
        imports = copy / "imports"
        imports.mkdir()
        (imports / "qcosd").symlink_to(copy / "qcosd")
        (imports / "qcos_plugins").symlink_to(copy / "plugins")
        target = copy / mutation.file
        target.write_text(mutation.applied(target.read_text("utf-8")), "utf-8")
        return next((" ".join(tests) for tests in (mutation.tests, EVERYTHING) if _fail(copy, imports, tests)), "")


def _fail(copy: Path, imports: Path, tests: tuple[str, ...]) -> bool:
    # Nobody reads why a test failed; explaining how two large tables differ can take pytest minutes.
    how = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--assert=plain", "--tb=no"]
    command = [sys.executable, "-m", "pytest", *how, *tests]
    environment = {**os.environ, "PYTHONPATH": str(imports), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, FAILED):
        raise RuntimeError(
            f"pytest {' '.join(tests)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.returncode == FAILED


def _try(mutation: Mutation) -> bool:
    began = monotonic()
    found = noticed(mutation)
    verdict = f"noticed by {found}" if found else "SURVIVED"
    print(f"{mutation.name:40} {monotonic() - began:6.1f} s  {verdict}", flush=True)
    return bool(found)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tools/mutation-check", description="See whether the tests notice deliberate bugs."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="bugs tried at once (default: one a core)"
    )
    parser.add_argument("--document", action="store_true", help="write docs/MUTATIONS.md and try nothing")
    options = parser.parse_args()
    every = mutations()
    if options.document:
        DOCUMENT.write_text(document(), "utf-8")
        return 0
    if unknown := set(options.names) - {m.name for m in every}:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}; known: {', '.join(m.name for m in every)}")
    chosen = [m for m in every if not options.names or m.name in options.names]
    with ThreadPoolExecutor(options.jobs) as pool:
        survived = [m.name for m, caught in zip(chosen, pool.map(_try, chosen), strict=True) if not caught]
    print(
        f"{len(chosen) - len(survived)} of {len(chosen)} bugs noticed"
        + (f"; survived: {', '.join(survived)}" if survived else "")
    )
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
