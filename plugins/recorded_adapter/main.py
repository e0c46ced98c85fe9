# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the player of recordings."""

from __future__ import annotations

from typing import Any

from qcos_plugins.recorded_adapter.foreign import open_files, play
from qcos_plugins.recorded_adapter.player import Player
from qcos_plugins.recorded_adapter.recording import Recording, RecordingError

from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Batch, Control, DecisionFault, feed
from qcosd.qec.placement import Placement
from qcosd.sdk import Plugin, Refused

NOWHERE = Placement.of("recording", (0, 0), [])

plugin = Plugin()
kept: dict[tuple[str, str], tuple[Recording, FragmentProgram]] = {}  # of the last job

plugin.operation("hardware", "open")(open_files)
plugin.operation("hardware", "play")(play)


@plugin.operation("hardware", "replay")
def replay(lease: Any) -> Any:
    """One batch of a `recording`, streamed as raw records."""
    key = (lease.inputs["recording"], lease.inputs["fragments"])
    if key not in kept:
        opened = _opened(lease)
        kept.clear()
        kept[key] = opened
    recording, program = kept[key]
    if program.choices:
        text = "the recorded program has T gates: what the decoder decided in them while it ran is not in the records"
        raise Refused("unsupported", text)
    control = Control(Player(recording))
    try:
        control.prepare(program, NOWHERE)
        feed(control, lease.stream, Batch(lease.batch, lease.shots, lease.seed), check=lease.check)
    except RecordingError as error:
        raise Refused("wrong_input", str(error), {"kind": "recording"}) from error
    except DecisionFault as error:
        raise Refused("wrong_input", str(error), {"stream": "rounds"}) from error
    return lease.result()


def _opened(lease: Any) -> tuple[Recording, FragmentProgram]:
    return lease.read("recording", Recording.from_bytes), lease.read("fragments", FragmentProgram.from_bytes)


if __name__ == "__main__":
    plugin.main()
