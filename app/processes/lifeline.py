"""A child process that does not outlive its parent, whatever ends the parent.

On Linux the kernel signals the child (PR_SET_PDEATHSIG); elsewhere a thread watches the parent's id.
``python -m app.lifeline SIGNAL COMMAND...`` does it for a program that is not ours: the setting
survives `exec`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PARENT_VARIABLE = "OPCOD_PARENT_PID"
"""A parent that wants its child to end with it sets this to its own process id in the child's environment."""

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 0.5


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Send this process `signal_number` when the parent that set `PARENT_VARIABLE` ends; without the variable, do nothing.

    The kernel means the parent's *thread* that started this process, so parents start children from threads that live on.
    The variable is removed, so that it does not reach this process's own children.
    """
    parent = int(os.environ.pop(PARENT_VARIABLE, "0"))
    if not parent:
        return
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # it ended before the kernel knew
            os.kill(os.getpid(), signal_number)
    else:
        threading.Thread(target=_watch, args=(parent, signal_number), name="lifeline", daemon=True).start()


def _watch(parent: int, signal_number: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal_number)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
