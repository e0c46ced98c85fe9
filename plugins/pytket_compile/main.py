# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the compiler."""

from __future__ import annotations

from typing import Any

from qcos_plugins.pytket_compile.compiler import SourceError, compile_source

from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

plugin = Plugin()


@plugin.operation("compile", "compile")
def compile_(lease: Any) -> Any:
    """OpenQASM 2.0 text (`source`) to a logical program (`logical`)."""
    name = lease.options.get("source_name") or "program"
    try:
        program, facts = compile_source(lease.input("source"))
    except SourceError as error:
        raise Refused(error.code, f"{name}:{error.line}: {error.text}") from error
    versioned = {**facts, "versions": versions("pytket", "stim", "numpy")}
    return lease.result(outputs={"logical": program.to_bytes()}, facts=versioned)


if __name__ == "__main__":
    plugin.main()
