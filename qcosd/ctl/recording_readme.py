# SPDX-License-Identifier: Apache-2.0
"""README.txt of a directory of records: what its files are, and a script that decodes them without qcosd."""

from __future__ import annotations

CORRELATED = frozenset({"pymatching-correlated", "pymatching-tempered"})
"""Decoders that match in two passes."""

MATCHING = CORRELATED | {"pymatching"}

_TEXT = """\
Records of a qcosd job: every measurement of every accepted shot, and what was made of it while it ran.

job.json          the result of the job, its options, the digests of its artifacts, and the names and sizes of all files
program.bin       what ran (`fragments`), calibration.bin the rates that were assumed, placement.bin where it lay;
                  calibrations/ID.bin are those of single batches, where they differed
paths/NAME/       the shots that took one path through the program: NAME is what was decided on the way, 0 or 1 each,
                  or `all` where nothing is decided
  circuit.stim    that path as one circuit, with noise; its observable k is classical bit k
  model.dem       its error model, {seen}
  records.b8      raw records, a row for each accepted shot (stim's b8 format)
  missing.b8      only if some are missing: 1 where a record has no value; it is 0 in records.b8 then, and means nothing
  outcomes.b8     the classical bits as they were decoded and acted on, undecoded.b8 without any correction
  frames.b8       what constant and conditional Paulis added to each bit
  shots.json      which shots these are: batch and number in it, and those that were discarded and have no row

    outcome = observable(records) xor decoded flip xor frame

Bits that are random are observables too: at births and splits of patches the circuit names Paulis as part of an observable.
Converting records to observables leaves those out (skip_reference_sample=True), which gives the bits themselves.

{use}"""

_USE = """\
This script needs stim, pymatching and numpy. Run in this directory it decodes every shot without missing records again, all
rounds at once, and prints the share of shots with the same outcome. `qcosctl replay .` plays them through the windows instead.

"""

_NO_BITS = "The program has no classical bits: there is nothing to decode.\n"

_SCRIPT = """\
    import pathlib, pymatching, stim
    same = total = 0
    for path in sorted(pathlib.Path(".").glob("paths/*")):
        def read(name, bits): return stim.read_shot_data_file(path=path / name, format="b8", num_measurements=bits)
        circuit, model = stim.Circuit.from_file(path / "circuit.stim"), stim.DetectorErrorModel.from_file(path / "model.dem")
        whole = ~read("missing.b8", circuit.num_measurements).any(axis=1) if (path / "missing.b8").exists() else slice(None)
        records, outcomes, frames = (read(f"{{name}}.b8", bits)[whole] for name, bits in (
            ("records", circuit.num_measurements), ("outcomes", circuit.num_observables), ("frames", circuit.num_observables)))
        syndrome, values = circuit.compile_m2d_converter(skip_reference_sample=True).convert(measurements=records, separate_observables=True)
        flips = pymatching.Matching.from_detector_error_model(model{correlated}).decode_batch(syndrome{correlated})
        same, total = same + ((values ^ flips.astype(bool) ^ frames) == outcomes).all(axis=1).sum(), total + len(records)
    print(f"{{same / total:.6f}} of {{total}} shots")
"""


def readme(decoder: str, bits: int) -> str:
    """The text for records that this decoder has decoded, of a program with so many classical bits."""
    correlated = ", enable_correlations=True" if decoder in CORRELATED else ""
    seen = (
        f"as the job's decoder ({decoder}) saw it" if decoder in MATCHING else f"for matching; the job's was {decoder}"
    )
    return _TEXT.format(seen=seen, use=_USE + _SCRIPT.format(correlated=correlated) if bits else _NO_BITS)


def script_in(text: str) -> str:
    """The script that a README.txt holds, ready to run."""
    lines = text[text.index("    import ") :].splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines) + "\n"
