"""Keys: plain ``uint32`` arrays of two words, made, split and folded; and a watch over their reuse.

Inside, a key is one 64-bit word: a number of the shape of a draw's lanes, so that operations need know nothing of the
pair.  A child of a key is a word of the key's own bits: that is why a key that has been split is not to be drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..core.array import Array, dtype_of
from ..core.errors import KeyReuseWarning, user_line, warn_user
from ..core.foreign import as_array
from ..core.handler import evaluate
from ..ops.random import random_bits

__all__ = [
    "PRNGKey",
    "check_keys",
    "children",
    "clone",
    "draw_bits",
    "fold_in",
    "key",
    "key_data",
    "split",
    "use",
    "wrap_key_data",
]

_uses: ContextVar[dict[int, str] | None] = ContextVar("uses", default=None)
"""Under `check_keys`: where each key, as a word, was used."""


def _pair(words: Any) -> Any:
    """Keys as users have them, from words."""
    return np.stack([words >> 32, words & 0xFFFFFFFF], axis=-1).astype(np.uint32)


def _word(key: Any, name: str) -> Any:
    """A user's key as a word."""
    key = as_array(key)
    if dtype_of(key) != np.uint32 or np.shape(key)[-1:] != (2,):
        given = f"{key.dtype} of shape {key.shape}" if isinstance(key, (Array, np.ndarray)) else repr(key)
        raise TypeError(f"{user_line()}: br.random.{name} takes a key, as br.random.key(seed) makes it, not {given}")
    if np.ndim(key) > 1:
        raise ValueError(
            f"{user_line()}: br.random.{name} takes one key, but was given keys of shape {np.shape(key)}. Map over "
            "them with br.vmap."
        )
    return key[0].astype(np.uint64) << 32 | key[1]


def use(key: Any, name: str) -> Any:
    """A user's key, as a word, for a draw by the function of that name."""
    word = _word(key, name)
    uses = _uses.get()
    if uses is not None:
        _watch(word, uses)
    return word


def _plain(value: Any) -> Any:
    """The plain array at the bottom of a value, with the axes of all its lanes."""
    while isinstance(value, Array):
        value = value.read()._value
    return value


def _watch(word: Any, uses: dict[int, str]) -> None:
    here = user_line()
    for number in map(int, np.ravel(_plain(word))):
        if number in uses:
            warn_user(
                f"the key [{number >> 32} {number & 0xFFFFFFFF}] is used at {here}, and was used at {uses[number]}: "
                "the draws are not independent. Split it first (br.random.split), or say that it is meant "
                "(br.random.clone).",
                KeyReuseWarning,
            )
        uses[number] = here


@contextmanager
def check_keys() -> Iterator[None]:
    """Warn where a key is used for the second time: drawn from, or split.

    `fold_in` and `clone` are no uses.  With several lanes each lane's key counts.

    >>> import warnings, bindrune as br
    >>> key = br.random.key(0)
    >>> with warnings.catch_warnings(record=True) as caught, br.random.check_keys():
    ...     a = br.random.normal(key)
    ...     b = br.random.uniform(key)
    >>> caught[0].category.__name__
    'KeyReuseWarning'
    """
    token = _uses.set({})
    try:
        yield
    finally:
        _uses.reset(token)


def key(seed: Any) -> Any:
    """A key from an integer seed.

    Args:
        seed: an integer of at most 64 bits.

    Returns:
        The key: two words of 32 bits, an array of shape ``(2,)``.

    >>> import bindrune as br
    >>> br.random.key(42)
    array([ 0, 42], dtype=uint32)
    """
    seed = as_array(seed if not isinstance(seed, int) else np.int64(seed))
    dtype = dtype_of(seed)
    if dtype.kind not in "iu":
        raise TypeError(f"{user_line()}: a seed is an integer, not {seed!r}")
    if np.shape(seed):
        raise TypeError(
            f"{user_line()}: a seed is one integer, but an array of shape {np.shape(seed)} was given. Map over it "
            "with br.vmap."
        )
    words = seed.astype(np.uint64)
    return _pair(words if dtype.itemsize == 8 else words & 0xFFFFFFFF)


def PRNGKey(seed: Any) -> Any:  # noqa: N802  (JAX's name)
    """A key from an integer seed: another name of `key`.

    >>> import bindrune as br
    >>> br.random.PRNGKey(42)
    array([ 0, 42], dtype=uint32)
    """
    return key(seed)


def key_data(key: Any) -> Any:
    """The words of a key, which are the key itself.

    >>> import bindrune as br
    >>> br.random.key_data(br.random.key(42))
    array([ 0, 42], dtype=uint32)
    """
    return wrap_key_data(key)


def wrap_key_data(data: Any) -> Any:
    """A key, or an array of keys, from its words: ``uint32`` with a last axis of length two.

    >>> import numpy as np, bindrune as br
    >>> br.random.wrap_key_data(np.array([0, 42], dtype=np.uint32))
    array([ 0, 42], dtype=uint32)
    """
    data = as_array(data)
    if dtype_of(data) != np.uint32 or np.shape(data)[-1:] != (2,):
        raise TypeError(f"{user_line()}: the words of keys are uint32 with a last axis of length 2, not {data!r}")
    return data


def clone(key: Any) -> Any:
    """The same key, to be used once more on purpose (see `check_keys`).

    >>> import bindrune as br
    >>> key = br.random.key(0)
    >>> bool(br.random.normal(key) == br.random.normal(br.random.clone(key)))
    True
    """
    word = _word(key, "clone")
    uses = _uses.get()
    if uses is not None:
        for number in map(int, np.ravel(_plain(word))):
            uses.pop(number, None)
    return key


def split(key: Any, num: Any = 2) -> Any:
    """New keys from a key, which is not to be used afterwards.

    Args:
        key: a key.
        num: how many, or the shape of an array of keys.

    Returns:
        The keys, an array of shape ``(num, 2)``; it unpacks into keys.

    >>> import bindrune as br
    >>> key, subkey = br.random.split(br.random.key(42))
    >>> subkey
    array([  64467757, 2916123636], dtype=uint32)
    """
    return _pair(children(use(key, "split"), num if isinstance(num, tuple) else (num,)))


def fold_in(key: Any, data: Any) -> Any:
    """A new key from a key and a number, such as that of a step.

    Args:
        key: a key.
        data: an integer of at most 32 bits.

    Returns:
        The new key.

    >>> import bindrune as br
    >>> br.random.fold_in(br.random.key(42), 7)
    array([2547012911, 1371500959], dtype=uint32)
    """
    data = np.uint32(data) if isinstance(data, int) else as_array(data)
    if dtype_of(data).kind not in "iu" or np.shape(data):
        raise TypeError(f"{user_line()}: br.random.fold_in takes one integer, not {data!r}")
    counter = data.astype(np.uint32).astype(np.uint64)
    return _pair(evaluate(random_bits, (_word(key, "fold_in"), counter), {"shape": (), "width": 64}))


def draw_bits(word: Any, shape: tuple[int, ...], width: int) -> Any:
    """The bits of a draw from a key's first counter on."""
    return evaluate(random_bits, (word, np.uint64(0)), {"shape": shape, "width": width})


def children(word: Any, shape: tuple[int, ...] = (2,)) -> Any:
    """The words of an array of new keys."""
    return draw_bits(word, shape, 64)
