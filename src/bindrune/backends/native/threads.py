"""Threads: a few that sleep until a loop is long enough to be shared.

The pool is machine code like the programs it serves: a loop is cut into as many parts as there are threads, the first
of which the caller takes itself.  Who is busy already (another thread of Python's, a loop within a loop) does all parts
in turn, so that results never depend on who was free.  After a fork the child starts threads of its own, and whoever
was busy in the parent is no longer.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from typing import Any

from .machine import Code, alone, define_symbol

__all__ = [
    "EVEN",
    "MANY",
    "MOST",
    "PARALLEL",
    "PARTS",
    "define_threads",
    "processors",
    "set_threads",
    "thread_pool",
    "threads",
]

MOST = 64
"""The most threads there can be."""

MANY, EVEN = 1024, 16
"""The parts of a loop of so many steps begin at multiples of another number."""

PARALLEL, PARTS = "bindrune.parallel", "bindrune.parts"
"""The symbols of what runs the parts of a loop, and of what says how many there should be."""

_WORTH = 60_000
"""The work, in about as many cycles, for which another thread is woken."""

_PAUSE = "pause" if platform.machine() in ("x86_64", "AMD64") else "yield"
_PATIENCE = 4000
"""How often a thread looks for more work before it sleeps."""


@functools.cache
def thread_pool() -> Code:
    """The code of the pool."""
    return Code([_TEXT], level=0)


@alone
@functools.cache
def define_threads() -> None:
    """Let machine code use the pool."""
    pool = thread_pool()
    define_symbol(PARALLEL, pool.address("parallel"))
    define_symbol(PARTS, pool.address("parts"))
    _wanted().value = min(_usual(), MOST)


def processors() -> int:
    """How many processors the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _usual() -> int:
    try:
        asked = int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])
    except ValueError:
        asked = 0
    return asked if asked > 0 else processors()


def _wanted() -> Any:
    return ctypes.c_int64.from_address(thread_pool().address("wanted"))


def set_threads(count: int) -> None:
    """Let the loops of compiled functions be shared by at most so many threads.

    From the start there are as many as ``OMP_NUM_THREADS`` says, or as the process may use processors.  Results are the
    same every time for one number of threads; for another one, sums may be rounded otherwise.  Matrix products are
    left to BLAS, which has a number of threads of its own.

    Args:
        count: how many, from 1 to 64; more are taken as 64.

    Raises:
        ValueError: it is less than one.

    >>> import bindrune as br
    >>> br.set_threads(2)
    """
    if count < 1:
        raise ValueError(f"set_threads: {count} threads; there must be one at least")
    define_threads()
    _wanted().value = min(count, MOST)


def threads() -> int:
    """How many threads share a loop at most."""
    define_threads()
    found: int = _wanted().value
    return found


# The pool's state is in global variables.  There is room for a mutex and two conditions as glibc has them on 64-bit
# machines (40 and 48 bytes); they are zero when they are new.
_TEXT = f"""
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @getpid()
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

@wanted = global i64 1
@busy = internal global i64 0
@mutex = internal global [8 x i64] zeroinitializer, align 64
@work = internal global [8 x i64] zeroinitializer, align 64
@done = internal global [8 x i64] zeroinitializer, align 64
@generation = internal global i64 0, align 64
@pending = internal global i64 0, align 64
@started = internal global i64 0
@born = internal global i64 0
@process = internal global i32 0
@body = internal global ptr null
@frame = internal global ptr null
@count = internal global i64 0
@shares = internal global i64 0

define i64 @parts(i64 %count, i64 %cost) {{
  %work = mul i64 %count, %cost
  %worth = udiv i64 %work, {_WORTH}
  %wanted = load i64, ptr @wanted
  %some = call i64 @llvm.smin.i64(i64 %wanted, i64 %worth)
  %few = call i64 @llvm.smin.i64(i64 %some, i64 %count)
  %found = call i64 @llvm.smax.i64(i64 %few, i64 1)
  ret i64 %found
}}

define internal i64 @border(i64 %count, i64 %part, i64 %parts) {{
  %product = mul i64 %count, %part
  %found = udiv i64 %product, %parts
  %even = and i64 %found, {-EVEN}
  %many = icmp uge i64 %count, {MANY}
  %last = icmp eq i64 %part, %parts
  %round = select i1 %many, i64 %even, i64 %found
  %border = select i1 %last, i64 %count, i64 %round
  ret i64 %border
}}

define internal void @share(ptr %body, ptr %frame, i64 %count, i64 %part, i64 %parts) {{
  %begin = call i64 @border(i64 %count, i64 %part, i64 %parts)
  %after = add i64 %part, 1
  %end = call i64 @border(i64 %count, i64 %after, i64 %parts)
  call void %body(ptr %frame, i64 %part, i64 %begin, i64 %end)
  ret void
}}

define internal ptr @worker(ptr %argument) {{
entry:
  %number = ptrtoint ptr %argument to i64
  %before = load i64, ptr @born
  br label %rest
rest:
  %seen = phi i64 [ %before, %entry ], [ %now, %next ]
  br label %look
look:
  %looked = phi i64 [ 0, %rest ], [ %more, %again ]
  %current = load atomic i64, ptr @generation acquire, align 8
  %fresh = icmp ne i64 %current, %seen
  br i1 %fresh, label %take, label %again
again:
  call void asm sideeffect "{_PAUSE}", ""()
  %more = add i64 %looked, 1
  %tired = icmp uge i64 %more, {_PATIENCE}
  br i1 %tired, label %sleep, label %look
sleep:
  call i32 @pthread_mutex_lock(ptr @mutex)
  br label %check
check:
  %there = load atomic i64, ptr @generation acquire, align 8
  %same = icmp eq i64 %there, %seen
  br i1 %same, label %wait, label %woken
wait:
  call i32 @pthread_cond_wait(ptr @work, ptr @mutex)
  br label %check
woken:
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %take
take:
  call i32 @pthread_mutex_lock(ptr @mutex)
  %now = load atomic i64, ptr @generation acquire, align 8
  %parts = load i64, ptr @shares
  %body = load ptr, ptr @body
  %frame = load ptr, ptr @frame
  %count = load i64, ptr @count
  call i32 @pthread_mutex_unlock(ptr @mutex)
  %mine = icmp slt i64 %number, %parts
  br i1 %mine, label %perform, label %next
perform:
  call void @share(ptr %body, ptr %frame, i64 %count, i64 %number, i64 %parts)
  br label %report
report:
  %left = atomicrmw sub ptr @pending, i64 1 acq_rel
  %last = icmp eq i64 %left, 1
  br i1 %last, label %tell, label %next
tell:
  call i32 @pthread_mutex_lock(ptr @mutex)
  call i32 @pthread_cond_broadcast(ptr @done)
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %next
next:
  br label %rest
}}

define internal i1 @own() {{
  %here = call i32 @getpid()
  %there = load atomic i32, ptr @process acquire, align 4
  %same = icmp eq i32 %here, %there
  br i1 %same, label %yes, label %another
another:
  %renewing = icmp eq i32 %there, -1
  br i1 %renewing, label %no, label %first
first:
  %claimed = cmpxchg ptr @process, i32 %there, i32 -1 acq_rel acquire
  %mine = extractvalue {{ i32, i1 }} %claimed, 1
  br i1 %mine, label %renew, label %no
renew:
  call void @llvm.memset.p0.i64(ptr @mutex, i8 0, i64 64, i1 false)
  call void @llvm.memset.p0.i64(ptr @work, i8 0, i64 64, i1 false)
  call void @llvm.memset.p0.i64(ptr @done, i8 0, i64 64, i1 false)
  store i64 1, ptr @started
  store i64 0, ptr @busy
  store atomic i32 %here, ptr @process release, align 4
  br label %yes
yes:
  ret i1 true
no:
  ret i1 false
}}

define internal void @start(i64 %parts) {{
entry:
  %thread = alloca i64
  br label %begin
begin:
  %started = load i64, ptr @started
  %missing = icmp slt i64 %started, %parts
  br i1 %missing, label %create, label %done
create:
  %generation = load i64, ptr @generation
  store i64 %generation, ptr @born
  %argument = inttoptr i64 %started to ptr
  call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %argument)
  %id = load i64, ptr %thread
  call i32 @pthread_detach(i64 %id)
  %more = add i64 %started, 1
  store i64 %more, ptr @started
  br label %begin
done:
  ret void
}}

define void @parallel(ptr %body, ptr %frame, i64 %count, i64 %parts) {{
entry:
  %single = icmp sle i64 %parts, 1
  br i1 %single, label %alone, label %try
alone:
  call void %body(ptr %frame, i64 0, i64 0, i64 %count)
  ret void
try:
  %own = call i1 @own()
  br i1 %own, label %claim, label %turn
claim:
  %claimed = cmpxchg ptr @busy, i64 0, i64 1 acq_rel acquire
  %free = extractvalue {{ i64, i1 }} %claimed, 1
  br i1 %free, label %together, label %turn
turn:
  %i = phi i64 [ 0, %try ], [ 0, %claim ], [ %j, %turn ]
  call void @share(ptr %body, ptr %frame, i64 %count, i64 %i, i64 %parts)
  %j = add i64 %i, 1
  %others = icmp slt i64 %j, %parts
  br i1 %others, label %turn, label %finished
finished:
  ret void
together:
  call void @start(i64 %parts)
  call i32 @pthread_mutex_lock(ptr @mutex)
  store ptr %body, ptr @body
  store ptr %frame, ptr @frame
  store i64 %count, ptr @count
  store i64 %parts, ptr @shares
  %helpers = sub i64 %parts, 1
  store atomic i64 %helpers, ptr @pending release, align 8
  %old = load i64, ptr @generation
  %new = add i64 %old, 1
  store atomic i64 %new, ptr @generation release, align 8
  call i32 @pthread_cond_broadcast(ptr @work)
  call i32 @pthread_mutex_unlock(ptr @mutex)
  call void @share(ptr %body, ptr %frame, i64 %count, i64 0, i64 %parts)
  br label %look
look:
  %looked = phi i64 [ 0, %together ], [ %more, %again ]
  %waiting = load atomic i64, ptr @pending acquire, align 8
  %over = icmp eq i64 %waiting, 0
  br i1 %over, label %release, label %again
again:
  call void asm sideeffect "{_PAUSE}", ""()
  %more = add i64 %looked, 1
  %tired = icmp uge i64 %more, {_PATIENCE}
  br i1 %tired, label %sleep, label %look
sleep:
  call i32 @pthread_mutex_lock(ptr @mutex)
  br label %check
check:
  %left = load atomic i64, ptr @pending acquire, align 8
  %some = icmp ne i64 %left, 0
  br i1 %some, label %wait, label %woken
wait:
  call i32 @pthread_cond_wait(ptr @done, ptr @mutex)
  br label %check
woken:
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %release
release:
  store atomic i64 0, ptr @busy release, align 8
  ret void
}}
"""
