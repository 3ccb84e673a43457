"""Machine code on disk, for the processes that come later.

An entry is a file whose name says from what it was made: a hash of the program's text in LLVM's language and of all
else that its machine code depends on.  Arrays, messages and lines of the user's are no part of machine code; they are
made anew by each process.  An entry is written under another name and then put in its place, and it is read with a look
at its length and its hash: what was cut off, changed or put there by others is as good as nothing, and is written
again.  Nobody waits for anybody: processes that make the same entry at once put the same in its place.

Entries are executed, so only files of the user's own count, in a folder that nobody else may write to.  Where files
cannot be written, nothing is kept.  ``BINDRUNE_CACHE`` names another folder, or switches all this off: ``off``, ``0``
or nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["folder", "key_of", "load", "store"]

LIMIT = 512 << 20
"""The bytes that all entries together may take; the least recently used go first."""

_OFF = ("", "0", "off")
_MAGIC = b"bindrune code 1\n"
_DIGEST = 32
_HEAD = len(_MAGIC) + 2 * _DIGEST + 8
"""What stands before the code: what the file is, what it was made from, its length and its hash."""

_ENTRY, _UNFINISHED = ".code", ".new"
_ABANDONED = 3600.0
"""The seconds after which an entry that is still being written has been forgotten."""

_KEPT = 3 / 4
"""The share of the limit that is left after entries were removed."""

_LOOK = 64
"""After so many entries of its own a process looks how much there is."""

_written = itertools.count()


def folder() -> str | None:
    """Where entries lie; None where nothing is kept."""
    asked = os.environ.get("BINDRUNE_CACHE")
    if asked is None:
        asked = _usual()
    elif asked.lower() in _OFF:
        return None
    found = os.path.expanduser(asked)
    # Nobody's home is known where a tilde is left.
    return None if found.startswith("~") else os.path.join(os.path.abspath(found), "native")


def _usual() -> str:
    """The platform's folder for what can be made again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join("~", "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join("~", "Library", "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return os.path.join(base, "bindrune")


def key_of(parts: Iterable[str]) -> bytes:
    """The name of what is made from some texts."""
    found = hashlib.sha256()
    for part in parts:
        content = part.encode()
        found.update(b"%d:" % len(content))
        found.update(content)
    return found.digest()


def load(key: bytes) -> bytes | None:
    """The code of an entry, if it is there and as it was written."""
    place = folder()
    if place is None:
        return None
    path = _path(place, key)
    try:
        with open(path, "rb") as file:
            if not (_is_own(os.stat(place)) and _is_own(os.fstat(file.fileno()))):
                return None
            content = file.read()
        found = _checked(key, content)
        if found is not None:
            os.utime(path)
    except OSError:
        return None
    return found


def store(key: bytes, code: bytes) -> None:
    """Keep code, if files can be written."""
    place = folder()
    if place is None:
        return
    with suppress(OSError):
        os.makedirs(place, 0o700, exist_ok=True)
        if not _is_own(os.stat(place)):
            return
        number = next(_written)
        with _unfinished(f"{_path(place, key)}.{os.getpid()}.{number}{_UNFINISHED}") as path:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            with open(descriptor, "wb") as file:
                file.write(_head(key, code))
                file.write(code)
            os.replace(path, _path(place, key))
        if number % _LOOK == 0:
            _trim(place)


@contextmanager
def _unfinished(path: str) -> Iterator[str]:
    """The path of a file that is not left behind."""
    try:
        yield path
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _path(place: str, key: bytes) -> str:
    return os.path.join(place, key.hex() + _ENTRY)


def _head(key: bytes, code: bytes) -> bytes:
    return _MAGIC + key + len(code).to_bytes(8, "little") + hashlib.sha256(code).digest()


def _checked(key: bytes, content: bytes) -> bytes | None:
    code = content[_HEAD:]
    return code if content[:_HEAD] == _head(key, code) else None


def _is_own(found: os.stat_result) -> bool:
    """Whether a file or a folder is the user's, and nobody else's to write to."""
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _trim(place: str) -> None:
    """Remove what was not used for longest, where there is too much, and what was never finished."""
    entries: list[tuple[float, int, str]] = []
    with os.scandir(place) as found:
        for item in found:
            with suppress(FileNotFoundError):
                status = item.stat(follow_symlinks=False)
                if item.name.endswith(_ENTRY):
                    entries.append((status.st_mtime, status.st_size, item.path))
                elif item.name.endswith(_UNFINISHED) and status.st_mtime < time.time() - _ABANDONED:
                    os.unlink(item.path)
    total = sum(size for _, size, _ in entries)
    if total <= LIMIT:
        return
    for _, size, path in sorted(entries):
        if total <= LIMIT * _KEPT:
            break
        with suppress(FileNotFoundError):
            os.unlink(path)
        total -= size
