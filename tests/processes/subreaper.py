"""Become a program to which Linux gives orphans, as it gives them to PID 1: `… PROGRAM WORDS`.

What a process is told here it stays when it executes another program, and it needs no rights.
"""

import ctypes
import os
import sys

LAUNCHER = (sys.executable, __file__)
PR_SET_CHILD_SUBREAPER = 36


def main():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  the point of it


if __name__ == "__main__":
    main()
