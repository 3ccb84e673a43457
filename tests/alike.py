"""Whether two results are alike: the same values, dtypes, shapes and classes, in the same structure."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["alike", "fresh"]


def alike(found: Any, expected: Any, rtol: float = 1e-11) -> None:
    """Fail unless two results are alike, numbers up to rounding."""
    assert type(found) is type(expected), f"{found!r}, expected {expected!r}"
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), f"{found!r}, expected {expected!r}"
        for a, b in zip(found, expected, strict=True):
            alike(a, b, rtol)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), f"{found!r}, expected {expected!r}"
        if expected.dtype.kind in "fc":
            rtol = max(rtol, float(16 * np.finfo(expected.dtype).eps))
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 10)
        else:
            np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, (float, complex)):
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 10)
    else:
        assert found == expected, f"{found!r}, expected {expected!r}"


def fresh(arguments: Any) -> Any:
    """Arguments with copies of their arrays."""
    return [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
