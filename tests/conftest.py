"""Tests keep machine code in a folder of their own, and of long runs the text that LLVM works on.

LLVM ends the process where it finds an error of its own; `bindrune-<process>.ll` in the folder for temporary files is
then what it was given.
"""

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def folder_for_machine_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BINDRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def text_for_llvm() -> Iterator[None]:
    if "BINDRUNE_PROGRAMS" not in os.environ or importlib.util.find_spec("llvmlite") is None:
        yield
        return
    from bindrune.backends.native import machine

    optimized = machine._optimized
    place = Path(tempfile.gettempdir()) / f"bindrune-{os.getpid()}.ll"

    def kept(text: str, *how: Any) -> Any:
        place.write_text(text)
        found = optimized(text, *how)
        place.unlink()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "_optimized", kept)
        yield
