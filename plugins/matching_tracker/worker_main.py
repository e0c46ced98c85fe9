# SPDX-License-Identifier: Apache-2.0
"""Services decode and shadow: windows of a batch are decoded for its tracker, or all of it once more beside it.  The component
`decode_worker`: the tracker's software, and none of its state.

What decoding needs is imported with the first lease: most jobs ask for no workers, and nobody waits for one.
"""

from __future__ import annotations

from typing import Any

from qcosd.sdk import Plugin, Refused, StreamClosed
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


@plugin.operation("shadow", "rounds")
def shadow(lease: Any) -> Any:
    """A batch that a tracker shows while it decodes it."""
    from qcos_plugins.matching_tracker.fault import StreamFault
    from qcos_plugins.matching_tracker.frames import NotFinal
    from qcos_plugins.matching_tracker.looking_on import Onlooker
    from qcos_plugins.matching_tracker.planned import plans_of, shadow_of
    from qcos_plugins.matching_tracker.structure import WrongFragments

    plans = plans_of(lease, shadow_of(lease))
    missing = (lease.options.get("set") or {}).get("missing", "decode")
    onlooker = Onlooker(plans, lease.shots, lease.batch, lease.stream, decode_missing=missing == "decode")
    try:
        differ = onlooker.run()
    except (StreamFault, BrokenStream, WrongFragments, NotFinal, StreamClosed) as fault:
        raise Refused("retry_later", str(fault), {"stream": "shadow"}) from fault
    return lease.result(facts={"differ": differ})


if __name__ == "__main__":
    plugin.main()
