"""Functions of a program that are alike are one, and those that are not, are not."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native import cutting, sharing
from bindrune.backends.native.likeness import Descriptions, signature
from compiled import numbers


def functions(text: str) -> int:
    """How many functions loops of a program have become."""
    return len(set(re.findall(r"@part\d+", text)))


def llvm(function: Callable[..., Any], *arguments: Any) -> str:
    """The text of a function for LLVM, which gives the numbers that the function gives."""
    compiled = br.jit(function, backend="native")
    for found, expected in zip(*map(br.tree.leaves, (compiled(*arguments), function(*arguments))), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    text: str = compiled.lower(*arguments).llvm
    return text


def calls(text: str) -> int:
    """How often they are called by the thread that comes to them."""
    return len(re.findall(r"call void @part", text))


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program counts as large, and every loop as worth a call."""
    monkeypatch.setattr(cutting, "_MOST_ONCE", 0)
    monkeypatch.setattr(sharing, "_WORTH_A_CALL", 0)


def layers(x: Any, weights: list[Any], scales: tuple[float, ...]) -> Any:
    """Layers with a norm, a softmax and a skip connection."""
    for w, scale in zip(weights, scales, strict=True):
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        e = np.exp(y @ w - (y @ w).max(-1, keepdims=True))
        x = x + scale * np.tanh(e / e.sum(-1, keepdims=True))
    return np.sum(x * x)


def text_of(count: int, *scales: float) -> str:
    x, weights = numbers(40, 64), [0.1 * k * numbers(64, 64) for k in range(1, count + 1)]
    every = scales or (0.5,) * count
    return llvm(br.value_and_grad(lambda x, w: layers(x, w, every), argnums=(0, 1)), x, weights)


@pytest.mark.usefixtures("cut")
def test_layers_that_are_alike_are_compiled_once() -> None:
    few, more = text_of(9), text_of(12)
    assert functions(more) == functions(few)
    assert calls(more) > calls(few) > functions(few)


@pytest.mark.usefixtures("cut")
def test_layers_that_differ_in_a_number_are_not_alike() -> None:
    assert functions(text_of(4, 0.5, 0.25, 0.125, 0.5)) > functions(text_of(4))


@pytest.mark.usefixtures("cut")
def test_llvm_knows_how_many_steps_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    """It says so where it is to write a loop out whose steps it does not know."""

    def run(x: Any, y: Any) -> Any:
        x = np.sort(x * y[:, None], 0)
        x = np.sort(x * y[:, None], 0)
        return np.sort(x * y[:, None], 0)

    assert functions(llvm(run, numbers(100, 100), numbers(100))) > 0
    assert "loop" not in capfd.readouterr().err


@pytest.mark.usefixtures("cut")
def test_loops_that_are_cut_out_add_to_numbers_and_arrays_outside() -> None:
    def added(x: Any, y: Any) -> Any:
        columns, total = np.zeros(x.shape[1]), 0.0
        for a in (x, y, np.sin(x), y * x):
            columns += (a * a).sum(0)
            total = total + np.exp(a).sum() * columns[3]
        return columns, total

    text = llvm(added, numbers(12, 9), numbers(12, 9) + 1.0)
    assert functions(text) > 0
    gradient = br.grad(lambda x, y: added(x, y)[1] + added(y, x)[0].sum(), argnums=(0, 1))
    llvm(gradient, numbers(12, 9), numbers(12, 9) + 1.0)


def test_small_programs_keep_their_loops() -> None:
    assert calls(text_of(1)) == 0


def test_what_a_function_is_about() -> None:
    described = Descriptions()
    described.scopes.update({"10": ["1"], "11": ["2"], "20": ["2", "9"], "21": ["1", "9"], "30": ["9"], "31": ["9"]})
    described.loops.update({"50": ("fast", "40"), "51": ("fast", "41"), "52": ("slow", "41")})

    def function(name: str, own: str, scopes: tuple[str, str, str, str], group: str, loop: str) -> str:
        first, but, second, nor = scopes
        lines = [
            f"define internal void @{name}(ptr %frame) {{",
            f"  %{own} = alloca float",
            f"  load float, ptr %{own}, !alias.scope !{first}, !noalias !{but}, !llvm.access.group !{group}",
            f"  load float, ptr %captured0, !alias.scope !{second}, !noalias !{nor}, !llvm.access.group !{group}",
            f"  br label %loop, !llvm.loop !{loop}",
        ]
        return signature("\n".join(lines), described)

    one = function("part1", "t7", ("10", "20", "11", "21"), "40", "50")
    assert function("part2", "t8", ("11", "21", "10", "20"), "41", "51") == one
    others = [
        function("part2", "t8", ("10", "30", "11", "21"), "40", "50"),  # the first may overlap with the second
        function("part2", "t8", ("10", "20", "10", "20"), "40", "50"),  # both are in one place
        function("part2", "t8", ("10", "20", "11", "21"), "40", "51"),  # the loop is said to have other accesses
        function("part2", "t8", ("10", "20", "11", "21"), "41", "52"),  # and is compiled otherwise
    ]
    assert len({one, *others}) == 5
