# SPDX-License-Identifier: Apache-2.0
"""The `circuits` artifact: whole paths as stim circuits with error models, for whoever decodes written records elsewhere.

``paths``, the artifact it is made for: a msgpack list of paths, each a list of decisions.  ``circuits``: a msgpack list, in
that order, of {"circuit": text, "model": text}.  Observable ``k`` of a circuit is classical bit ``k``, without what
conditional Paulis and constants add to it.
"""

from __future__ import annotations

from typing import Any

import msgpack
import stim
from qcos_plugins.matching_tracker.effects import settled_effects, with_effects
from qcos_plugins.matching_tracker.model import DECODERS, matching_model
from qcos_plugins.matching_tracker.plan import Plans

from qcosd.qec.circuit import whole_circuit
from qcosd.qec.geometry import Coord

PLAIN = "pymatching"
"""What a model is written for where the job's decoder is no way of matching."""


def written_circuits(plans: Plans, offset: Coord, paths: bytes) -> bytes:
    """Raises ValueError where ``paths`` is no list of paths of the program."""
    program, rates = plans.program, plans.calibration.floored()
    found = []
    for decisions in read_paths(paths):
        if len(program.path(decisions)) != len(decisions) + 1:
            raise ValueError(f"paths: {decisions} is no path of this program")
        whole = whole_circuit(program, rates, decisions=decisions, offset=offset, conditional=False)
        model = stim.Circuit(whole.text).detector_error_model(decompose_errors=True)
        matched = matching_model(model, plans.decoder if plans.decoder in DECODERS else PLAIN)
        weighted = with_effects(matched, settled_effects(plans, decisions, whole.detectors))
        found.append({"circuit": f"{whole.text}\n", "model": f"{weighted}\n"})
    return bytes(msgpack.packb(found))


def read_paths(data: bytes) -> list[list[int]]:
    """The lists of decisions; raises ValueError where there are none."""
    try:
        paths: Any = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"not a paths artifact: {error!r}") from error
    if not isinstance(paths, list) or not all(isinstance(p, list) and {*p} <= {0, 1} for p in paths):
        raise ValueError("not a paths artifact: a list of lists of 0 and 1 expected")
    return paths
