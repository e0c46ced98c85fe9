# SPDX-License-Identifier: Apache-2.0
"""qcosd: a quantum computer operating system."""

__version__ = "0.1.0"
