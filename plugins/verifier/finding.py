# SPDX-License-Identifier: Apache-2.0
"""What an examination can come to, besides nothing wrong."""

from __future__ import annotations


class Wrong(Exception):
    """The artifact is not what its kind promises.  The message says what, and where."""


class TooLarge(Exception):
    """To examine this would take longer than it may.  The message says what was left out."""
