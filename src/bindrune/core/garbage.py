"""Rest for the garbage collector while much is made that stays.

It looks at what is new again and again, and where programs are compiled and modules imported nearly all of that is
there to stay.
"""

from __future__ import annotations

import gc
import os
import threading

__all__ = ["Rest"]


class Rest:
    """While any thread is in it, the garbage collector of the process rests; then it is as it was."""

    def __init__(self) -> None:
        self._begin_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._wake)

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._inside = 0
        self._was_on = False

    def _wake(self) -> None:
        """Of the threads that were in it, a child has none."""
        if self._inside and self._was_on:
            gc.enable()
        self._begin_anew()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was_on = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside = max(self._inside - 1, 0)
            if not self._inside and self._was_on:
                gc.enable()
