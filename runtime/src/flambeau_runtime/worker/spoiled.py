"""Whether CUDA is of any use still to this process, asked after a handler has failed.

A failed assertion in a kernel, or an address that is not there, spoils the process's context: each
later call fails with the same error, and only a new process helps.
"""

from __future__ import annotations

import sys


class DeviceSpoiled(Exception):
    """No batch can succeed on the device in this process any more."""


def check_device() -> None:
    """Return where the device works, or where CUDA is not in use; waits for its work to end.

    Raises:
        DeviceSpoiled: it answers nothing but an error.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return
    try:
        cuda.synchronize()  # memory that ran out is no error here: the next batch may have enough
    except Exception as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise DeviceSpoiled(said) from error
