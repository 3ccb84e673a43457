"""What is exported computes in C what the function computes here, and what cannot be exported is refused."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)
if not shutil.which("cc"):
    pytest.skip("there is no C compiler", allow_module_level=True)

_NUMBERS = {
    "b1": ctypes.c_bool, "i1": ctypes.c_int8, "i2": ctypes.c_int16, "i4": ctypes.c_int32, "i8": ctypes.c_int64,
    "u1": ctypes.c_uint8, "u2": ctypes.c_uint16, "u4": ctypes.c_uint32, "u8": ctypes.c_uint64,
    "f4": ctypes.c_float, "f8": ctypes.c_double,
}  # fmt: skip


class Called:
    """A function of a shared library, called as C would."""

    def __init__(self, exported: Any) -> None:
        self._library = ctypes.CDLL(str(exported.path))
        self._function = getattr(self._library, exported.name)
        self._message = getattr(self._library, f"{exported.name}_message")
        self._message.restype = ctypes.c_char_p

    def __call__(self, *arguments: Any) -> int:
        given = []
        for x in arguments:
            if isinstance(x, np.ndarray):
                assert x.flags.c_contiguous
                given.append(ctypes.c_void_p(x.ctypes.data))
            else:
                given.append(_NUMBERS[np.asarray(x).dtype.str[1:]](x))
        status: int = self._function(*given)
        return status

    def message(self, status: int) -> str:
        found: bytes = self._message(status)
        return found.decode()


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Called]:
    def made(f: Any, *arguments: Any, **options: Any) -> Called:
        options.setdefault("name", "under_test")
        return Called(br.export(f, *arguments, path=tmp_path / f"{options['name']}.so", **options))

    return made


def agree(build: Callable[..., Called], f: Any, *arguments: Any, rtol: float = 1e-12) -> None:
    """The results in C are those of the function; what it changes among its arguments is changed there too."""
    called = build(f, *arguments)
    here, there = ([x.copy() if isinstance(x, np.ndarray) else x for x in arguments] for _ in range(2))
    expected = f(*here)
    expected = list(expected) if isinstance(expected, tuple) else [expected]
    results = [np.empty(np.shape(v), np.asarray(v).dtype) for v in expected]
    assert called(*there, *results) == 0
    for mine, theirs in zip([*there, *results], [*here, *expected], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol)


X = np.linspace(-1.5, 2, 40)
M = np.cos(np.arange(1200.0)).reshape(30, 40)


def smoothed(x: np.ndarray) -> np.ndarray:
    for i in range(1, len(x) - 1):
        x[i] = 0.5 * x[i] + 0.25 * (x[i - 1] + x[i + 1])
    return np.sum(x * x)


def root(a: float) -> tuple[float, int]:
    x, steps = a, 0
    while abs(x * x - a) > 1e-12 * a:
        x, steps = 0.5 * (x + a / x), steps + 1
    return x, steps


def powers(x: float, n: int) -> float:
    return 1.0 if n == 0 else x + np.sin(powers(x, n - 1)) * powers(x, n // 2 if n > 3 else 0)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "elements": (lambda x, y: (x + y, np.sin(x) * np.exp(y), x > y), (X, X[::-1].copy())),
    "library": (lambda x: np.power(np.abs(x), 1.3) + np.arctan2(x, 2) + np.hypot(x, 3) + np.cbrt(x), (X,)),
    "library, float32": (lambda x: np.cos(x) + np.log1p(np.abs(x)) ** 0.3, (X.astype(np.float32),)),
    "sums": (lambda x: (x.sum(), x.mean(0), x.max(1), x.min()), (M,)),
    "products": (lambda a, b: (a @ b, a @ b[:, 0], b.T @ a.T), (M, M.T.copy())),
    "writes": (smoothed, (X,)),
    "while": (root, (7.0,)),
    "recursion": (powers, (0.3, 9)),
    "a derivative of a recursion": (br.grad(powers), (0.3, 9)),
    "a derivative": (br.grad(smoothed), (X,)),
    "a derivative of products": (br.grad(lambda w, x: np.sum(np.tanh(x @ w) ** 2)), (M.T.copy(), M)),
    "a Hessian": (br.hessian(lambda x: np.sum(np.sin(x) * x[::-1])), (X[:6],)),
    "lanes": (br.vmap(lambda x: np.sum(x * x) / x[0]), (M,)),
    "integers": (lambda n, k, x: (n * k, x // n, x << 2), (7, np.int8(-3), np.arange(9, dtype=np.int32))),
    "narrow numbers": (
        lambda a, b, c, d: (a + b, c * d),
        (np.int16(-300), np.uint8(200), np.float32(0.1), np.uint32(9)),
    ),
    "booleans": (lambda x: (np.any(x), ~x), (X > 0,)),
    "complex numbers": (lambda z: (z[::-1].copy(), np.stack([z, z])), (X + 1j * X**2,)),
    "nothing": (lambda x: x.sum() + 1, (np.ones(0),)),
    "no arguments": (lambda: np.arange(5.0) * 2, ()),
    "many elements": (
        lambda x: (np.sum(np.tanh(x) * np.exp(-x * x)), np.sqrt(np.abs(x))),
        (np.linspace(-2, 3, 200_000),),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_c_computes_the_same(name: str, build: Callable[..., Called]) -> None:
    f, arguments = PROGRAMS[name]
    agree(build, f, *arguments, rtol=2e-6 if "float32" in name or "narrow" in name else 1e-12)


def test_trees_give_names(tmp_path: Path) -> None:
    def step(params: dict[str, Any], /, *batches: Any, rate: float) -> Any:
        return {"loss": params["w"].sum() * rate, "w 1": params["b"][0] + batches[1]}, "text"

    given = {"w": np.ones((2, 3)), "b": [np.ones(2)]}
    exported = br.export(step, given, np.ones(2), np.ones(2, np.float32), rate=0.5, path=tmp_path / "new" / "it.o")
    assert exported.declaration == (
        "int step(const double params_b_0[2], const double params_w[6], const double batches0[2], "
        "const float batches1[2], double rate, double *out_0_loss, double out_0_w_1[2]);"
    )
    assert exported.header == tmp_path / "new" / "it.h"
    assert "params_w: float64, 2 x 3" in exported.header.read_text()


def test_names_do_not_clash(tmp_path: Path) -> None:
    exported = br.export(lambda out, int: out + int, 1.0, 2.0, path=tmp_path / "sum.o")
    assert exported.declaration == "int sum(double out, double int_2, double *out_2);"


def test_files_and_names_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exported = br.export(smoothed, np.ones(9))
    assert (exported.name, str(exported.path), str(exported.header)) == ("smoothed", "smoothed.o", "smoothed.h")
    assert exported.path.exists()


def test_shapes_stand_for_arrays(build: Callable[..., Called]) -> None:
    called = build(lambda x: x * 2, br.ShapeDtype((3,), np.float32))
    x, out = np.arange(3, dtype=np.float32), np.empty(3, np.float32)
    assert called(x, out) == 0
    np.testing.assert_array_equal(out, [0, 2, 4])


def test_open_lengths_are_parameters(build: Callable[..., Called]) -> None:
    def halves(x: np.ndarray) -> tuple[np.ndarray, float]:
        x[1:] += x[:-1]
        return x / 2, x.sum()

    called = build(br.jit(halves, dynamic=True), np.ones(7))
    for n in (2, 5, 1000):
        x = np.arange(float(n))
        expected = x.copy()
        half, total = halves(expected)
        out, whole = np.empty(n), np.empty(())
        assert called(x, n, out, whole) == 0
        np.testing.assert_allclose(out, half)
        np.testing.assert_array_equal(x, expected)
        assert whole == total


def test_what_is_captured_is_frozen(build: Callable[..., Called]) -> None:
    weights, scale = np.arange(12.0), np.array([3.0])
    called = build(lambda x: np.sum(x * weights) * scale, np.ones(12))
    weights[:] = 0
    out = np.empty(1)
    assert called(np.ones(12), out) == 0
    assert out == 3 * 66


# ---------------------------------------------------------------------------------------------------- what goes wrong


def test_an_index_out_of_bounds(build: Callable[..., Called]) -> None:
    def second(x: np.ndarray, i: int) -> Any:
        x[0] = 5
        return x[i]

    called = build(second, np.ones(4), 1)
    x, out = np.ones(4), np.empty(())
    status = called(x, 4, out)
    assert status > 0
    assert "getitem" in called.message(status)
    assert "test_export.py" in called.message(status)
    assert x[0] == 1
    assert called(x, -1, out) == called(x, 3, out) == 0
    assert x[0] == 5


def test_errors_of_the_functions_own(build: Callable[..., Called]) -> None:
    def positive(x: float) -> float:
        if x < 0:
            raise ValueError('"negative"\n\\ numbers \xe4')
        return x * 2

    called = build(positive, 1.0)
    out = np.empty(())
    assert called(1.5, out) == 0
    assert out == 3
    status = called(-1.0, out)
    assert called.message(status).startswith('ValueError: "negative"\n\\ numbers \xe4 (')


def test_what_decided_staging(build: Callable[..., Called]) -> None:
    called = build(lambda x, n: x * (2.0, 3.0)[n], 1.0, 1)
    out = np.empty(())
    assert called(2.0, 1, out) == 0
    assert out == 6
    assert "is not what the function was compiled for" in called.message(called(2.0, 0, out))


def test_integers_are_exact_or_refused(build: Callable[..., Called]) -> None:
    called = build(lambda n, k: n * k, 5, 7)
    out = np.empty((), int)
    assert called(-(2**40), 2**20, out) == 0
    assert out == -(2**60)
    assert called.message(called(2**40, 2**40, out)).startswith("multiply has no result for these operands (")
    for n in (2**62, -(2**62), 2**63 - 1, -(2**63)):
        assert called.message(called(1, n, out)) == f"an integer is {2**62} or more in magnitude"


def test_messages_for_other_numbers(build: Callable[..., Called]) -> None:
    called = build(lambda x: x + 1, 1.0)
    assert called.message(0) == ""
    assert called.message(-1) == "there is no memory"
    assert called.message(12) == called.message(-3) == called.message(1) == "no such status"


def _prints(x: Any) -> Any:
    print(x)  # noqa: T201
    return x


def _calls_back(x: Any) -> Any:
    return br.pure_callback(np.sort, br.ShapeDtype((3,), np.float64), x)


def _without_machine_code(x: Any) -> Any:
    return np.linalg.eigvalsh(np.outer(x, x))


_kept: dict[str, Any] = {}


def _remembers(x: Any) -> Any:
    _kept["x"] = x * 2
    return x


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (_prints, r"show, .*test_export.py"),
        (_calls_back, r"it calls Python.*\n.*test_export.py"),
        (_without_machine_code, r"eigvalsh?, .*test_export.py"),
        (_remembers, "changes something that is not an argument"),
        (lambda x: x[x > 0], "depends on values|as plain Python|it calls Python"),
    ],
)
def test_refusals(f: Callable[..., Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(br.ExportError, match=message):
        br.export(f, np.ones(3), path=tmp_path / "refused.o")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "it.c"}, "it.c has none of .o"),
        ({"path": "it.o", "name": "for"}, "no name for a function in C"),
        ({"path": "it.o", "name": "a.b"}, "no name for a function in C"),
        ({}, "no name for a function in C"),
        ({"path": "it.o", "name": "free"}, "free is the name of a function that it calls"),
    ],
)
def test_paths_and_names(
    options: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(br.ExportError, match=message):
        br.export(lambda x: x + 1, 1.0, **options)


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(br.ExportError, match="takes a C compiler"):
        br.export(lambda x: x + 1, 1.0, path=tmp_path / "it.so")
    br.export(lambda x: x + 1, 1.0, path=tmp_path / "it.o")


# -------------------------------------------------------------------------------------------------------------- linking


def test_only_its_own_names_are_seen(tmp_path: Path) -> None:
    exported = br.export(PROGRAMS["library"][0], X, path=tmp_path / "it.o", name="seen")
    listed = subprocess.run(["nm", str(exported.path)], capture_output=True, text=True, check=True).stdout.split("\n")
    assert {line.split()[-1] for line in listed if " T " in line} == {"seen", "seen_message"}
    assert not [line for line in listed if " U " in line and "bindrune" in line]
    assert not [line for line in listed if "Py" in line]


def test_calls_from_many_threads(build: Callable[..., Called]) -> None:
    f, (x, w) = br.value_and_grad(lambda x, w: np.sum(np.tanh(x @ w))), (M.T.copy(), M)
    called = build(f, x, w)
    value, gradient = f(x, w)
    wrong: list[int] = []

    def work() -> None:
        for _ in range(50):
            found, slope = np.empty(()), np.empty_like(x)
            fine = called(x, w, found, slope) == 0 and np.allclose(slope, gradient) and np.allclose(found, value)
            wrong.extend([] if fine else [1])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


C = r"""
#include <math.h>
#include <stdio.h>
#include "both.h"
#include "other.h"

int main(void) {
    double x[5] = {1, 2, 3, 4, 5}, squares[5], total;
    bool many;
    if (both(x, 2, squares, &many)) return 1;
    if (other(x, 5, &total)) return 2;
    int status = both(x, 9, squares, &many);
    printf("%g %g %d %g %d %s\n", squares[0], squares[4], many, total, status > 0, both_message(status));
    return 0;
}
"""


@pytest.mark.parametrize("standard", ["-std=c99", "-std=c17", "c++"])
def test_a_c_program(standard: str, tmp_path: Path) -> None:
    def both(x: np.ndarray, i: int) -> tuple[np.ndarray, bool]:
        return x * x + x[i], np.sum(x) > 3

    def other(x: np.ndarray) -> float:
        return np.sum(np.sin(x) ** 2 + np.cos(x) ** 2)

    br.export(both, np.ones(5), 0, path=tmp_path / "both.o")
    br.export(br.jit(other, dynamic=True), np.ones(5), path=tmp_path / "other.o")
    source = tmp_path / ("main.cpp" if standard == "c++" else "main.c")
    source.write_text(C)
    compiler = ["c++"] if standard == "c++" else ["cc", standard]
    if not shutil.which(compiler[0]):
        pytest.skip("there is no C++ compiler")
    command = [*compiler, "-Wall", "-Wextra", "-pedantic", "-Werror", "-o", "main", source.name]
    subprocess.run([*command, "both.o", "other.o", "-lm"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("4 28 1 5 1 getitem has no result for these operands (")


def test_it_needs_no_python(tmp_path: Path) -> None:
    exported = br.export(functools.partial(np.add, 2.0), X, path=tmp_path / "it.so")
    if sys.platform == "linux":
        needed = subprocess.run(["ldd", exported.path], capture_output=True, text=True, check=True).stdout
        assert "python" not in needed
