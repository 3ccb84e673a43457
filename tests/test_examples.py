"""The examples run, and what they claim holds."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import matplotlib.image
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_drawn(path: Path) -> bool:
    """Whether an image is there and not blank."""
    return float(np.std(matplotlib.image.imread(path))) > 0.01


def test_digits() -> None:
    example = load("digits")
    table, norms = example.main()
    network = table[table["model"] == "network"]
    assert set(network["optimiser"]) == {"L-BFGS", "SGD"}
    assert (network["held out"] > 0.95).all()
    assert (table["held out"] > 0.93).all()
    assert (table["loss"] < 0.2).all()
    assert norms.shape == (450,)
    assert np.all(norms > 0)
    assert is_drawn(example.PLOT)


def test_heat() -> None:
    example = load("heat")
    errors = example.main()
    assert errors["recovered"] < 0.12
    assert errors["recovered"] < errors["the first reading"] / 3
    assert is_drawn(example.PLOT)


def test_pendulum() -> None:
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    assert load("pendulum").main() == [0.8, 0.3]


def test_portfolio() -> None:
    weights, growth, result = load("portfolio").main()
    assert result.success
    assert np.linalg.norm(result.jac) < 1e-6
    assert 0 < weights.sum() <= 1
    assert growth["best"] > growth["equal weights"]
