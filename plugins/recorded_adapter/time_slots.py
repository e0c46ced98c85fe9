# SPDX-License-Identifier: Apache-2.0
"""When the detectors of a published experiment are known, and how far one has to look ahead to decode it."""

from __future__ import annotations

import stim

ONE_WINDOW = "the detectors have no time coordinate: all rounds are decoded at once"


def by_time(model: stim.DetectorErrorModel, circuit: stim.Circuit | None) -> tuple[list[int], str]:
    """The slot of each detector, from 0 without gaps, and a sentence where that was not to be had.

    A detector's time is its last coordinate, shifts included; equal times are one slot.  The coordinates are those of the
    model, or of the circuit where the model has none.
    """
    coordinates = model.get_detector_coordinates()
    if circuit is not None and not all(coordinates.get(d) for d in range(model.num_detectors)):
        coordinates = circuit.get_detector_coordinates()
    found = [coordinates.get(d) or [] for d in range(model.num_detectors)]
    if not all(found):
        return [0] * len(found), ONE_WINDOW
    times = [where[-1] for where in found]
    number = {time: slot for slot, time in enumerate(sorted(set(times)))}
    return [number[time] for time in times], ""


def graph_window(model: stim.DetectorErrorModel, times: list[int]) -> int:
    """Slots to commit at once and to look ahead: the distance, but no less than the longest edge reaches in time.

    0, to decode everything together, where no errors of one or two detectors each make a logical error.
    """
    try:
        distance = len(model.shortest_graphlike_error())
    except ValueError:
        return 0
    return max(distance, reach(model, times))


def reach(model: stim.DetectorErrorModel, times: list[int]) -> int:
    """Slots from the first to the last detector of the longest edge in time."""
    longest = 0
    for instruction in model.flattened():
        if instruction.type == "error":
            for group in instruction.target_groups():
                slots = [times[target.val] for target in group if target.is_relative_detector_id()]
                if slots:
                    longest = max(longest, max(slots) - min(slots))
    return longest
