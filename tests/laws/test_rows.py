"""An operation without rows would escape every law."""

import pytest

from bindrune.core.operation import registry

from .samples import SAMPLES


@pytest.mark.parametrize("name", sorted(name for name, op in registry.items() if not op.structured))
def test_an_operation_has_rows(name: str) -> None:
    assert any(sample.op.name == name for sample in SAMPLES), f"operation {name!r} lists no sample operands"
