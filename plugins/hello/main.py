# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the example: what arrives on the bus goes to greeting.py, which knows nothing of it."""

from __future__ import annotations

from qcos_plugins.hello.greeting import NotAName, greet

from qcosd.sdk import Lease, Plugin, Refused, Result

plugin = Plugin()


@plugin.operation("hello", "greet")
def greet_(lease: Lease) -> Result:
    """The name of somebody (`greeting`) to a greeting (`greeted`).  Option `greeting_word` changes the word."""
    word = str(lease.options.get("set", {}).get("greeting_word", "Hello"))
    try:
        text = greet(lease.input("greeting"), word)
    except NotAName as error:
        source = lease.options.get("source_name", "greeting")
        raise Refused("bad_input", f"{source}:{error.line}: {error}") from error
    lease.progress(1.0, "greeted")
    return lease.result(outputs={"greeted": text}, facts={"letters": len(text)})


if __name__ == "__main__":
    plugin.main()
