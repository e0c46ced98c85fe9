# SPDX-License-Identifier: Apache-2.0
"""Which packages computed a result: with others, the same seed need not give the same bits."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def _found(packages: tuple[str, ...]) -> dict[str, str]:
    found = {package: version(package) for package in packages}
    if "stim" in packages:
        found["stim-simd"] = _stim_simd()
    return found


def versions(*packages: str) -> dict[str, str]:
    """Installed version of each package, for ``facts["versions"]`` of an operation.

    With stim also ``stim-simd``: the instruction set that it chose on this processor (sse2, avx2, polyfill).  The width
    of its words is part of how it spends its random numbers.
    """
    return dict(_found(packages))


def _stim_simd() -> str:
    # Stim names the extension that it loaded in no public place but the module of its classes: stim._stim_sse2.
    import stim

    module: str = stim.Circuit.__module__
    return module.rpartition("_")[2]
