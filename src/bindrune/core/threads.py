"""What one thread at a time may do, since a library that does it bears no more, or does not bear to be left amid it.

A process that forks or ends waits until no thread is amid such a thing, and lets none begin: a child would wait for a
thread that it does not have; and CPython, up to version 3.13, unwinds a thread that asks for the interpreter when that
has ended, which C++ that was called from Python, and calls Python, answers by aborting the process.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ParamSpec, TypeVar

__all__ = ["Turns", "side_by_side"]

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class Turns:
    """A lock by which one thread at a time is amid some thing; it decorates the functions that do the thing.

    Who has it may wait for those that were made before, not after: that is the other way round from the order in which
    a process that forks or ends takes them.
    """

    def __init__(self) -> None:
        self._lock = lock = threading.RLock()
        atexit.register(lock.acquire)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __call__(self, function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
        lock = self._lock  # is still known when the interpreter ends

        @functools.wraps(function)
        def waiting(*arguments: _Given.args, **keywords: _Given.kwargs) -> _Result:
            with lock:
                return function(*arguments, **keywords)

        return waiting


def side_by_side(works: Sequence[Callable[[], _Result]], most: int) -> list[_Result]:
    """What some functions return that are called by so many threads at most, of which the caller is one.

    However it ends, none of the others is left, so that who has its turn may call it.
    """
    found: dict[int, _Result] = {}
    left = iter(range(len(works)))

    def work() -> None:
        for number in left:
            with suppress(Exception):
                found[number] = works[number]()

    helpers = 0 if sys.is_finalizing() else min(most, len(works)) - 1
    started = []
    try:
        for _ in range(helpers):
            helper = threading.Thread(target=work)
            with suppress(RuntimeError):  # there may be no room for another one
                helper.start()
                started.append(helper)
        work()
    finally:
        _see_off(started)
    # What has failed fails again, where it is the caller's.
    return [found[i] if i in found else one() for i, one in enumerate(works)]


def _see_off(threads: Sequence[threading.Thread]) -> None:
    """Wait until threads have ended; who interrupts this must wait, too."""
    interrupted = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:
                interrupted = error
    if interrupted is not None:
        raise interrupted
