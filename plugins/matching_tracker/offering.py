# SPDX-License-Identifier: Apache-2.0
"""Operations `track.admit` and `track.decoders`: the decoder of a job, and all that there are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgpack
from qcos_plugins.matching_tracker.admission import ADMITTED, Admission, Admissions
from qcos_plugins.matching_tracker.decoders import offers
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.planned import scheme_of, shadow_of

from qcosd.sdk import Refused

VERSION = 1

admissions = Admissions()  # outlives jobs


def admit(lease: Any) -> Any:
    """The artifact `decoder`: {version, name, package, package_version, erasures} of the job's decoder, which is admitted; and
    `windows`, how the job's windows are cut.

    Refused as bad input, with the reason and what there is instead.
    """
    name = lease.options.get("decoder") or DEFAULT_DECODER
    if not isinstance(name, str):
        raise Refused("bad_input", f"decoder {name!r}: a name expected")
    found = _admitted("decoder", name)
    if (shadow := shadow_of(lease)) is not None:
        _admitted("shadow", shadow)
    made = {
        "version": VERSION,
        "name": name,
        "package": found.package,
        "package_version": found.version,
        "erasures": found.erasures,
        "windows": scheme_of(lease),
    }
    used = {found.package: found.version}
    return lease.result(outputs={"decoder": msgpack.packb(made)}, facts={"versions": used})


def _admitted(what: str, name: str) -> Admission:
    offer = offers().get(name)
    if offer is None:
        raise Refused("bad_input", f"unknown {what} {name!r}; {_choice()}")
    found = admissions.of(name, offer)
    if found.state != ADMITTED:
        raise Refused("bad_input", f"{what} {name!r} is {found.state}: {found.reason}; {_choice()}")
    return found


def table(lease: Any) -> Any:
    """The artifact `decoders`: {version, default, decoders}, a map as `Admission` for each of them."""
    document = {"version": VERSION, "default": DEFAULT_DECODER, "decoders": [asdict(a) for a in _all()]}
    return lease.result(outputs={"decoders": msgpack.packb(document)}, facts={})


def _all() -> list[Admission]:
    return [admissions.of(name, offer) for name, offer in offers().items()]


def _choice() -> str:
    return "admitted: " + ", ".join(a.name for a in _all() if a.state == ADMITTED)
