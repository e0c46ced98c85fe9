# SPDX-License-Identifier: Apache-2.0
"""Published experiments in stim's formats: a directory of circuits, error models and shots becomes an `Experiment`.

Files by name, as in published data sets of surface codes:

- ``circuit_noisy.stim``, ``circuit.stim`` or ``circuit_ideal.stim``: what the records mean;
- ``model.dem`` or ``circuit_detector_error_model.dem``: the error model, else that of the (noisy) circuit;
- ``measurements.b8``, or ``detection_events.b8`` with ``obs_flips_actual.b8``; each may be ``.01`` instead;
- ``sweep.b8``: bits that the circuit was controlled by, shot by shot.

Where measurements and detection events are both there, they must agree.  Where the circuit reads sweep bits, what a record
means differs from shot to shot: then detection events are played instead of measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import stim
from qcos_plugins.recorded_adapter.shot_files import FileFault, Rows, found, rows
from qcos_plugins.recorded_adapter.time_slots import by_time, graph_window, reach

from qcosd.qec.experiment import Experiment, ExperimentShots, Parity, Slot

CIRCUITS = ("circuit_noisy.stim", "circuit.stim", "circuit_ideal.stim")
MODELS = ("model.dem", "circuit_detector_error_model.dem")
MAX_DETECTORS = 1_000_000
MAX_ERRORS = 5_000_000


class Read(NamedTuple):
    """``facts``: for the job's document."""

    experiment: Experiment
    shots: ExperimentShots
    facts: dict[str, Any]


def read(files: Mapping[str, bytes], name: str, window: int | None = None) -> Read:
    """The experiment in a directory's files.

    ``name``: for people.  ``window``: slots to commit at once and to look ahead, default the distance of the error model.
    Raises FileFault.
    """
    circuit_name = next((n for n in CIRCUITS if n in files), None)
    circuit = None if circuit_name is None else _circuit(files, circuit_name)
    model_name, model = _model(files, circuit, circuit_name)
    if circuit is not None:
        told = (circuit.num_detectors, circuit.num_observables)
        if (model.num_detectors, model.num_observables) != told:
            raise FileFault(
                f"{model_name} has {model.num_detectors} detectors and {model.num_observables} observables, "
                f"{circuit_name} has {told[0]} and {told[1]}"
            )
    if not model.num_observables:
        raise FileFault(f"{model_name} has no observables: nothing can be told from it")
    times, assumption = by_time(model, circuit)
    if window and window < (least := reach(model, times)):
        raise FileFault(
            f"window {window}: {model_name} has edges that reach {least} slots, which a window must look ahead"
        )
    window = graph_window(model, times) if window is None else window
    text = str(model)
    source, parts = _records(files, circuit, circuit_name, model)
    slots, observables, held = (_measured if source == "measurements" else _detected)(parts, times, circuit, model)
    experiment = Experiment(name, text, window, slots, observables)
    shots = ExperimentShots(len(held), experiment.records, np.packbits(held, axis=1, bitorder="little").tobytes())
    facts = {
        "experiment": name,
        "shots": shots.shots,
        "slots": len(slots),
        "records": experiment.records,
        "played": source,
        "window": window,
        "model": model_name,
        "detectors": model.num_detectors,
        "observables": model.num_observables,
        "assumptions": [assumption] if assumption else [],
    }
    return Read(experiment, shots, facts)


def _circuit(files: Mapping[str, bytes], name: str) -> stim.Circuit:
    try:
        circuit = stim.Circuit(files[name].decode())
    except (ValueError, UnicodeDecodeError) as error:
        raise FileFault(f"{name} is no stim circuit: {_first_line(error)}") from error
    if circuit.num_detectors > MAX_DETECTORS:
        raise FileFault(f"{name} has {circuit.num_detectors} detectors, more than {MAX_DETECTORS}")
    return circuit


def _model(
    files: Mapping[str, bytes], circuit: stim.Circuit | None, circuit_name: str | None
) -> tuple[str, stim.DetectorErrorModel]:
    name = next((n for n in MODELS if n in files), None)
    if name is not None:
        try:
            model = stim.DetectorErrorModel(files[name].decode())
        except (ValueError, UnicodeDecodeError) as error:
            raise FileFault(f"{name} is no stim error model: {_first_line(error)}") from error
    elif circuit is not None and circuit_name is not None:
        name = circuit_name
        try:
            model = circuit.detector_error_model(decompose_errors=True, approximate_disjoint_errors=True)
        except ValueError as error:
            raise FileFault(
                f"{name}: its errors do not decompose into edges between two detectors, which matching needs: "
                f"{_first_line(error)}"
            ) from error
    else:
        raise FileFault(f"no circuit and no error model: one of {', '.join((*CIRCUITS, *MODELS))} is expected")
    if model.num_errors > MAX_ERRORS or model.num_detectors > MAX_DETECTORS:
        raise FileFault(f"{name} has {model.num_errors} errors and {model.num_detectors} detectors: too many")
    if not model.num_errors:
        raise FileFault(f"{name} knows no errors: a noisy circuit or {MODELS[0]} is expected")
    # Tags mean nothing here, and whoever reads the text need not know of them.
    model = model.without_tags()
    _check_edges(name, model)
    return name, model


def _check_edges(name: str, model: stim.DetectorErrorModel) -> None:
    for instruction in model.flattened():
        if instruction.type != "error":
            continue
        (p,) = instruction.args_copy()
        if p > 0.5:
            raise FileFault(f"{name}: an error is likelier than not: {instruction}")
        if any(sum(t.is_relative_detector_id() for t in group) > 2 for group in instruction.target_groups()):
            raise FileFault(f"{name}: an error does not decompose into edges, which matching needs: {instruction}")


def _records(
    files: Mapping[str, bytes], circuit: stim.Circuit | None, circuit_name: str | None, model: stim.DetectorErrorModel
) -> tuple[str, tuple[Rows, ...]]:
    """What is to be played: ("measurements", (records,)) or ("detection events", (events, flips))."""
    measured, events, flips = (found(files, stem) for stem in ("measurements", "detection_events", "obs_flips_actual"))
    told: tuple[Rows, ...] | None = None
    if events is not None and flips is not None:
        first = rows(files, events, model.num_detectors, "detectors")
        told = (first, rows(files, flips, model.num_observables, "observables", len(first)))
    if measured is None or circuit is None:
        if told is not None:
            return "detection events", told
        missing = " with a circuit" if measured is not None else ""
        raise FileFault(
            f"no shots: measurements.b8{missing}, or detection_events.b8 with obs_flips_actual.b8 or .01 is expected"
        )
    records = rows(files, measured, circuit.num_measurements, "measurements", None if told is None else len(told[0]))
    converted = _converted(files, circuit, circuit_name, records, measured)
    if converted is None:
        if told is None:
            raise FileFault(f"{circuit_name} reads {circuit.num_sweep_bits} sweep bits: sweep.b8 is expected")
        return "detection events", told
    if told is not None:
        for name, mine, theirs in zip((events, flips), converted, told, strict=True):
            if (bad := np.flatnonzero((mine != theirs).any(axis=1))).size:
                raise FileFault(f"{name}: shot {bad[0]} is not what {circuit_name} makes of {measured}")
    return ("measurements", (records,)) if not circuit.num_sweep_bits else ("detection events", converted)


def _converted(
    files: Mapping[str, bytes], circuit: stim.Circuit, circuit_name: str | None, records: Rows, measured: str
) -> tuple[Rows, Rows] | None:
    """Detection events and observables of measurements; None if the sweep bits that this takes are not there."""
    sweep = None
    if circuit.num_sweep_bits:
        name = found(files, "sweep")
        if name is None:
            return None
        sweep = rows(files, name, circuit.num_sweep_bits, "sweep bits", len(records)).astype(np.bool_)
    events, flips = circuit.compile_m2d_converter().convert(
        measurements=records.astype(np.bool_), sweep_bits=sweep, separate_observables=True
    )
    return events.astype(np.uint8), flips.astype(np.uint8)


def _measured(
    parts: tuple[Rows, ...], times: list[int], circuit: stim.Circuit | None, model: stim.DetectorErrorModel
) -> tuple[tuple[Slot, ...], tuple[Parity, ...], Rows]:
    """Slots of measurements, in the order of the circuit: each brings what its detectors still lack."""
    assert circuit is not None
    (records,) = parts
    detectors, observables = parities(circuit)
    slots: list[list[Parity]] = [[] for _ in range(max(times, default=0) + 1)]
    for detector, slot in zip(detectors, times, strict=True):
        slots[slot].append(detector)
    made, arrived = [], 0
    for place, content in enumerate(slots):
        # The last slot takes what only observables read, or nobody.
        end = max([arrived, *(record + 1 for d in content for record in d.records)])
        end = circuit.num_measurements if place == len(slots) - 1 else end
        made.append(Slot(end - arrived, tuple(content)))
        arrived = end
    return tuple(made), observables, records


def _detected(
    parts: tuple[Rows, ...], times: list[int], circuit: stim.Circuit | None, model: stim.DetectorErrorModel
) -> tuple[tuple[Slot, ...], tuple[Parity, ...], Rows]:
    """Slots of detection events; the observables come at the very end."""
    events, flips = parts
    order = np.argsort(np.array(times, np.intp), kind="stable")
    slots: list[list[Parity]] = [[] for _ in range(max(times, default=0) + 1)]
    for record, number in enumerate(order.tolist()):
        slots[times[number]].append(Parity(number, 0, (record,)))
    made = [Slot(len(content), tuple(content)) for content in slots]
    made[-1] = made[-1]._replace(records=made[-1].records + flips.shape[1])
    observables = tuple(Parity(k, 0, (events.shape[1] + k,)) for k in range(flips.shape[1]))
    return tuple(made), observables, np.hstack([events[:, order], flips])


def parities(circuit: stim.Circuit) -> tuple[tuple[Parity, ...], tuple[Parity, ...]]:
    """The records of each detector and each observable, and what they come to without noise."""
    detectors: list[set[int]] = []
    observables: list[set[int]] = [set() for _ in range(circuit.num_observables)]
    measured = 0
    for instruction in circuit.flattened():
        if instruction.name in ("DETECTOR", "OBSERVABLE_INCLUDE"):
            records: set[int] = set()
            for target in instruction.targets_copy():
                if target.is_measurement_record_target:
                    records ^= {measured + target.value}
            if instruction.name == "DETECTOR":
                detectors.append(records)
            else:
                observables[int(instruction.gate_args_copy()[0])] ^= records
        else:
            measured += instruction.num_measurements
    zeros = np.zeros((1, circuit.num_measurements), np.bool_)
    # Records that are all 0 show as events and flips where the circuit without noise gives 1.
    events, flips = circuit.compile_m2d_converter().convert(measurements=zeros, separate_observables=True)
    return _parities(detectors, events[0]), _parities(observables, flips[0])


def _parities(records: list[set[int]], constants: np.ndarray[Any, Any]) -> tuple[Parity, ...]:
    return tuple(Parity(i, int(constants[i]), tuple(sorted(found))) for i, found in enumerate(records))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
