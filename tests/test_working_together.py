"""Threads that compile together, and the garbage collector, which rests meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest

import bindrune as br
from bindrune.core import threads
from bindrune.core.garbage import Rest
from bindrune.core.threads import side_by_side


def seen(number: int) -> tuple[int, int]:
    """A number, and the thread that saw it."""
    return number, threading.get_ident()


def test_works_are_done_on_threads_of_their_own_and_keep_their_order() -> None:
    meeting = threading.Barrier(3)

    def work(number: int) -> tuple[int, int]:
        meeting.wait(10)  # all three are there at once
        return seen(number)

    before = threading.active_count()
    found = side_by_side([partial(work, k) for k in range(3)], 3)
    assert [number for number, _ in found] == [0, 1, 2]
    assert len({thread for _, thread in found}) == 3
    assert threading.get_ident() in {thread for _, thread in found}
    assert threading.active_count() == before
    assert side_by_side([], 3) == []


def test_more_works_than_threads() -> None:
    found = side_by_side([partial(seen, k) for k in range(20)], 2)
    assert [number for number, _ in found] == [*range(20)]
    assert len({thread for _, thread in found}) <= 2
    assert {thread for _, thread in side_by_side([lambda: (0, threading.get_ident())] * 3, 1)} == {
        threading.get_ident()
    }


@pytest.mark.parametrize("failing", [0, 1])
def test_what_fails_on_a_thread_fails_where_it_was_asked_for(failing: int) -> None:
    def work(number: int) -> int:
        if number == failing:
            raise ValueError(f"work {number}")
        return number

    before = threading.active_count()
    with pytest.raises(ValueError, match=f"work {failing}"):
        side_by_side([lambda: work(0), lambda: work(1)], 2)
    assert threading.active_count() == before


def test_without_room_for_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads.threading.Thread, "start", refused)
    assert side_by_side([lambda: 1, lambda: 2], 2) == [1, 2]


def test_an_interruption_waits_for_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    started, going, join = threading.Event(), threading.Event(), threading.Thread.join
    ended: list[bool] = []

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        if not going.is_set():
            going.set()
            raise KeyboardInterrupt
        join(self, timeout)

    def work() -> None:
        if threading.current_thread() is threading.main_thread():
            started.wait(10)
            return
        started.set()
        going.wait(10)
        ended.append(True)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side([work, work], 2)
    assert ended == [True]


@pytest.fixture
def collecting() -> Iterator[None]:
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


@pytest.mark.parametrize("was", [True, False])
def test_the_collector_rests_and_is_then_as_it_was(was: bool, collecting: None) -> None:
    (gc.enable if was else gc.disable)()
    rest = Rest()
    with rest:
        assert not gc.isenabled()
        with rest:
            pass
        assert not gc.isenabled()
    assert gc.isenabled() == was
    with pytest.raises(ValueError, match="amid"), rest:
        raise ValueError("amid")
    assert gc.isenabled() == was


@contextlib.contextmanager
def another_thread_in(rest: Rest) -> Iterator[None]:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with rest:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    yield
    leave.set()
    thread.join()


def test_the_collector_rests_until_the_last_thread_has_left(collecting: None) -> None:
    gc.enable()
    rest = Rest()
    with another_thread_in(rest):
        with rest:
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_collector_of_a_child_does_not_rest(collecting: None) -> None:
    gc.enable()
    with another_thread_in(Rest()):
        child = os.fork()
        if not child:
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_compiling_leaves_the_collector_as_it_was(collecting: None) -> None:
    gc.enable()
    assert br.jit(lambda x: 2 * x + 1)(3.0) == 7.0
    assert gc.isenabled()
