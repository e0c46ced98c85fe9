# SPDX-License-Identifier: Apache-2.0
"""The two settings of a process that only prctl(2) reaches.

The functions are looked up when this module is imported: `die_with_parent` runs between fork and exec, where nothing may be
loaded or locked.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_prctl.restype = ctypes.c_int


def refuse_new_privileges() -> bool:
    """Make setuid programs and file capabilities powerless for this process and all that it starts. Say if it worked."""
    return bool(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Ask for `signum` when the thread that forked this process ends. Survives exec, not fork.

    Raises OSError if the kernel refuses.
    """
    if _prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG: " + os.strerror(ctypes.get_errno()))
