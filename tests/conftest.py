"""Tests keep machine code in a folder of their own."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def folder_for_machine_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BINDRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
