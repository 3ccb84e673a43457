"""What a call costs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any


def peak(function: Callable[[], Any]) -> int:
    """The most memory in use at once during a function, in bytes."""
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
