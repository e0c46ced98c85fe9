# SPDX-License-Identifier: Apache-2.0
"""Write the parts of docs/SUPERVISION.md that follow from qcosd/core/lifecycle.py, between their marks.

`tools/state-diagram` writes the file; with `--check` it writes nothing and fails if the file is not up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from qcosd.core.lifecycle import TABLE, State, Trigger

TARGET = Path(__file__).resolve().parent.parent / "docs" / "SUPERVISION.md"


def table() -> str:
    """A row for each trigger, a column for each state. Empty: nothing happens."""
    lines = ["| | " + " | ".join(f"**{state}**" for state in State) + " |", "|---" * (len(State) + 1) + "|"]
    for trigger in Trigger:
        cells = []
        for state in State:
            after, actions = TABLE[state][trigger]
            does = ", ".join(action.value for action in actions)
            cells.append("" if after is state and not does else f"{after}" + (f": {does}" if does else ""))
        lines.append(f"| *{trigger.value}* | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def diagram() -> str:
    """An arrow for each pair of states, with all that leads from one to the other."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.DOWN}"]
    for state in State:
        ways: dict[State, list[str]] = {}
        for trigger, (after, actions) in TABLE[state].items():
            if after is not state or actions:
                ways.setdefault(after, []).append(trigger.value)
        lines += [f"    {state} --> {after} : {', '.join(triggers)}" for after, triggers in ways.items()]
    return "\n".join([*lines, "```"])


def document() -> str:
    """The file with its generated parts as they should be."""
    text = TARGET.read_text()
    for name, part in (("table", table()), ("diagram", diagram())):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        text, count = re.subn(f"{begin}.*?{end}", lambda _, p=part, b=begin, e=end: f"{b}\n{p}\n{e}", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"docs/SUPERVISION.md: there is not one {begin} ... {end}")
    return text


def main() -> int:
    """Write or check the file."""
    text = document()
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text() == text:
            return 0
        print("docs/SUPERVISION.md is not what qcosd/core/lifecycle.py says; run tools/state-diagram", file=sys.stderr)
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
