# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcos_plugins.pytket_compile.compiler import SourceError, compile_source

from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

DEFAULT_EPSILON = 1e-3
LEAST_EPSILON = 1e-12

plugin = Plugin()


@plugin.operation("compile", "compile")
def compile_(lease: Any) -> Any:
    """OpenQASM 2.0 text (`source`) to a logical program (`logical`)."""
    name = lease.options.get("source_name") or "program"
    try:
        program, facts = compile_source(lease.input("source"), epsilon_of(lease.options))
    except ValueError as error:
        raise Refused("bad_input", str(error)) from error
    except SourceError as error:
        raise Refused(error.code, f"{name}:{error.line}: {error.text}") from error
    versioned = {**facts, "versions": versions("pytket", "stim", "numpy")}
    return lease.result(outputs={"logical": program.to_bytes()}, facts=versioned)


def epsilon_of(options: Mapping[str, Any]) -> float:
    """The setting.  Raises ValueError."""
    asked = (options.get("set") or {}).get("epsilon", DEFAULT_EPSILON)
    try:
        epsilon = float(asked)
    except (TypeError, ValueError):
        epsilon = 0.0
    if not LEAST_EPSILON <= epsilon <= 1:
        raise ValueError(f"epsilon {asked!r}: a number from {LEAST_EPSILON:g} to 1 expected")
    return epsilon


if __name__ == "__main__":
    plugin.main()
