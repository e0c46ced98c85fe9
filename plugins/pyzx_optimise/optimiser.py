# SPDX-License-Identifier: Apache-2.0
"""Rewrites the gates of a logical program as pyzx would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qcos_plugins.pyzx_optimise.passes import candidates

from qcosd.qec.program import LogicalProgram
from qcosd.qec.rewriting.rewriter import rewritten


def optimised(program: LogicalProgram, expired: Callable[[], bool]) -> tuple[LogicalProgram, dict[str, Any]]:
    """See `rewritten`."""
    return rewritten(program, candidates, expired)
