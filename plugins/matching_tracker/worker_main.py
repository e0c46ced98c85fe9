# SPDX-License-Identifier: Apache-2.0
"""Service decode: windows of a batch are decoded for its tracker.  The component `decode_worker`: the tracker's software, and none
of its state.

What decoding needs is imported with the first lease: most jobs ask for no workers, and nobody waits for one.
"""

from __future__ import annotations

from typing import Any

from qcosd.sdk import Plugin, Refused
from qcosd.sdk import StreamFault as BrokenStream

plugin = Plugin()


@plugin.operation("decode", "windows")
def windows(lease: Any) -> Any:
    """Those that one tracker hands out, until it has no more."""
    from qcos_plugins.matching_tracker.fault import StreamFault
    from qcos_plugins.matching_tracker.planned import plans_of
    from qcos_plugins.matching_tracker.structure import WrongFragments
    from qcos_plugins.matching_tracker.worker import serve

    try:
        done = serve(plans_of(lease), lease.stream)
    except (StreamFault, BrokenStream) as fault:
        raise Refused("wrong_input", str(fault), {"stream": "windows"}) from fault
    except WrongFragments as fault:
        raise Refused("wrong_input", str(fault), {"kind": "fragments"}) from fault
    return lease.result(facts={"windows": done})


if __name__ == "__main__":
    plugin.main()
