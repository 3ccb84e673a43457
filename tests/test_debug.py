"""Debugging shows what a function does and where it goes wrong, and changes nothing."""

import doctest
import inspect
import io
import pdb
import re

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.5, -1.2, 2.0])


def layer(w, x):
    return np.tanh(w * x)


def loss(x):
    y = layer(np.array([1.0, 2.0, 3.0]), x)
    y[0] = y[1] * 2
    return np.sum(y * y)


def shown(function, *arguments):
    """The result, and the lines printed."""
    stream = io.StringIO()
    result = function(lambda f: br.debug(f, file=stream), *arguments)
    return result, stream.getvalue().splitlines()


def line_of(function, offset):
    return f"{__file__}:{function.__code__.co_firstlineno + offset}, in {function.__name__}"


# ----------------------------------------------------------------------------------------------------------- br.debug


def test_each_operation_is_a_line_with_values_and_the_users_line():
    result, lines = shown(lambda debug: debug(loss)(X))
    close(result, loss(X))
    names = "multiply tanh getitem multiply setitem multiply sum"
    assert [line.split(" -> ")[0] for line in lines] == names.split()
    assert lines[0] == (
        "multiply -> float64[3] [ 0.5 -2.4 6. ]  of float64[3] [1. 2. 3.], float64[3] [ 0.5 -1.2 2. ]  "
        f"at {line_of(layer, 1)}"
    )
    assert lines[3].startswith("multiply -> float64 -1.96735  of float64 -0.983675, int 2  ")
    assert "index=(0,)" in lines[4]
    assert lines[4].endswith(f"at {line_of(loss, 2)}")


def test_the_gradient_is_unchanged():
    gradient = br.grad(loss)(X)
    for way in (lambda debug: debug(br.grad(loss))(X), lambda debug: br.grad(debug(loss))(X)):
        found, lines = shown(way)
        assert (found == gradient).all()
        assert any("multiply ->" in line for line in lines)
        assert any("sum ->" in line for line in lines)


def test_a_gradient_inside_shows_the_operations_of_both_passes():
    _, lines = shown(lambda debug: debug(br.grad(lambda x: np.sum(np.sin(x))))(X))
    assert [line.split(" -> ")[0] for line in lines] == [
        "forward sin",
        "forward sum",
        "backward cos",
        "backward multiply",
    ]
    assert "in the derivative of sin  at " in lines[-1]


def test_the_backward_pass_is_told_by_the_line_of_the_forward_pass():
    _, lines = shown(lambda debug: debug(br.grad(loss))(X))
    backward = [line for line in lines if line.startswith("backward") and "derivative of tanh" in line]
    assert backward
    assert all(line.endswith(f"at {line_of(layer, 1)}") for line in backward)
    written = [line for line in lines if line.startswith("backward") and "derivative of setitem" in line]
    assert all(line.endswith(f"at {line_of(loss, 2)}") for line in written)


def test_a_gradient_outside_shows_what_comes_back_through_the_operations():
    _, lines = shown(lambda debug: br.grad(lambda x: np.sum(debug(np.sin)(x) * 2))(X))
    assert [line.split(" -> ")[0] for line in lines] == ["forward sin", "backward pullback of sin"]
    assert lines[1].startswith("backward pullback of sin -> float64[3]")
    assert "of float64[3] [2. 2. 2.]" in lines[1]


def recurrence(x):
    """Writes constants and values, through a view too, in loops of which one ends on a value."""
    out = np.zeros(4)
    out[0] = x[0]
    for i in range(1, 4):
        out[i] = np.sin(out[i - 1]) * x[i % 3]
        out[i:] += x[0]
    view = out[1:].reshape(-1)
    view[0] = 3.0
    view *= x[1]
    total = 0.0
    while total < 1:
        total += abs(out[0]) + 0.3
    np.add.at(out, [0, 0], x[:2])
    return np.sum(out**2) + total


NESTED = {
    "debug-of-grad": lambda debug: debug(br.grad(recurrence)),
    "grad-of-debug": lambda debug: br.grad(debug(recurrence)),
    "debug-of-grad-of-debug": lambda debug: debug(br.grad(debug(recurrence))),
    "debug-of-debug": lambda debug: debug(debug(br.grad(recurrence))),
    "checkpoint-of-debug": lambda debug: br.grad(br.checkpoint(debug(recurrence))),
    "map-of-debug": lambda debug: lambda x: br.vmap(br.grad(debug(recurrence)))(x[None])[0],
    "debug-of-map": lambda debug: lambda x: debug(br.vmap(br.grad(recurrence)))(x[None])[0],
}


@pytest.mark.parametrize("way", NESTED.values(), ids=NESTED)
def test_writes_and_loops_nested(way):
    gradient, lines = shown(lambda debug: way(debug)(X))
    assert (gradient == br.grad(recurrence)(X)).all()
    operations = {re.sub(r"^(forward|backward) (pullback of )?", "", line.split(" -> ")[0]) for line in lines}
    assert operations >= set("getitem setitem add_at multiply sin sum absolute add".split())
    first = recurrence.__code__.co_firstlineno
    numbers = {int(line.rsplit(f"{__file__}:")[1].split(",")[0]) for line in lines}
    assert numbers <= {*range(first, first + 16)}


def test_orders_nest():
    second = br.grad(br.grad(lambda x: np.sin(x) * x))(0.7)
    for way in (
        lambda debug: debug(br.grad(br.grad(lambda x: np.sin(x) * x)))(0.7),
        lambda debug: br.grad(debug(br.grad(lambda x: np.sin(x) * x)))(0.7),
        lambda debug: br.grad(br.grad(debug(lambda x: np.sin(x) * x)))(0.7),
    ):
        found, lines = shown(way)
        close(found, second, rtol=1e-15)
        assert any("of sin" in line for line in lines)


def test_forward_mode_in_both_orders():
    expected = br.jvp(loss, (X,), (X,))
    for way in (
        lambda debug: br.jvp(debug(loss), (X,), (X,)),
        lambda debug: debug(lambda x: br.jvp(loss, (x,), (x,)))(X),
    ):
        found, lines = shown(way)
        close(found, expected, rtol=1e-15)
        assert all(line.startswith("forward ") for line in lines if " in loss" in line or " in layer" in line)


def test_batches_in_both_orders():
    rows = np.stack([X, 2 * X])
    expected = br.vmap(loss)(rows)
    inside, lines = shown(lambda debug: br.vmap(debug(loss))(rows))
    assert (inside == expected).all()
    assert lines[0].startswith("multiply -> float64[3] in 2 lanes [[")
    outside, lines = shown(lambda debug: debug(br.vmap(loss))(rows))
    assert (outside == expected).all()
    assert lines[0].startswith("multiply -> float64[2,3] [[")


def test_results_keep_their_kind():
    def f(x, n, p):
        return x[n], {"p": p["a"] * 2, "n": n}, x.astype(np.float32)

    stream = io.StringIO()
    number, tree, single = br.debug(f, stream)(X, 1, {"a": 3.0})
    assert type(number) is np.float64
    assert (tree["n"], type(tree["n"])) == (1, int)
    assert type(tree["p"]) is float
    assert (type(single), single.dtype) == (np.ndarray, np.float32)


def test_writes_reach_the_callers_array():
    def f(x):
        x[0] = x[1] * 2
        x += 1

    x = X.copy()
    br.debug(f, io.StringIO())(x)
    close(x, np.array([-1.4, -0.2, 3.0]))


def test_control_flow_and_errors_are_those_of_the_function():
    def f(x):
        return np.sum(x) if x[0] > 0 else x.reshape(2)

    stream = io.StringIO()
    close(br.debug(f, stream)(X), np.sum(X))
    with pytest.raises(ValueError, match="cannot reshape"):
        br.debug(f, stream)(-X)


def test_a_function_with_a_rule_is_one_operation():
    square = br.custom_jvp(lambda x: x * x)
    square.defjvps(lambda tangent, y, x: 2 * x * tangent)
    gradient, lines = shown(lambda debug: br.grad(debug(lambda x: square(x) * 3))(2.0))
    close(gradient, 12.0)
    assert [line.split(" -> ")[0] for line in lines[:2]] == ["forward custom_jvp", "forward multiply"]


def test_an_operation_of_several_results_comes_back_once():
    _, lines = shown(lambda debug: br.grad(debug(lambda a: np.sum(np.linalg.eigh(a)[0] ** 2)))(np.eye(2)))
    assert sum("pullback of eigh" in line for line in lines) == 1


def test_what_comes_back_through_a_write_is_shown():
    def f(x):
        y = np.zeros(2)
        y[0] = x
        y[1] = 5.0
        return np.sum(y * y)

    _, lines = shown(lambda debug: br.grad(debug(f))(3.0))
    assert all(line.startswith(("forward ", "backward ")) for line in lines)
    backward = [line for line in lines if "pullback of setitem" in line]
    assert [line.split("  at ")[0] for line in backward] == [
        "backward pullback of setitem -> float64 10  of float64 10",
        "backward pullback of setitem -> float64 6  of float64 6",
    ]
    assert [line.split(" at ")[-1] for line in backward] == [line_of(f, 3), line_of(f, 2)]


def test_operations_on_constants_alone_are_not_shown():
    def f(x):
        y = np.zeros(3) + np.cos(1.0)
        y[1] = 2.0
        y[0] = x
        y[2] = 3.0
        return y[1]

    _, lines = shown(lambda debug: debug(f)(1.5))
    assert [line.split(" -> ")[0] for line in lines] == ["setitem", "setitem", "getitem"]


def test_printing_goes_to_standard_output_by_default(capsys):
    br.debug(np.sin)(0.0)
    assert capsys.readouterr().out.startswith("sin -> float64 0  of float 0  at ")


def test_debug_is_a_decorator_that_keeps_the_name():
    @br.debug
    def named(x):
        return x

    assert named.__name__ == "named"
    assert repr(br.debug) == "<br.debug>"


# ------------------------------------------------------------------------------------------------------------- record


def test_a_table_of_records():
    result, table = br.debug.record(br.grad(loss))(X)
    close(result, br.grad(loss)(X))
    first = table[0]
    assert (first.operation, first.phase, first.of) == ("multiply", "forward", ())
    assert [(d.dtype, d.shape) for d in first.operands] == [("float64", (3,))] * 2
    assert [line.function for line in first.stack] == ["loss", "layer"]
    assert first.line == line_of(layer, 1)
    assert {r.phase for r in table} == {"forward", "backward"}
    header, *rows = str(table).splitlines()
    assert header.split() == ["pass", "operation", "result", "of", "line"]
    assert len(rows) == len(table)
    assert len({row.rstrip().rfind(__file__) for row in rows if __file__ in row}) == 1


def test_a_table_keeps_what_was_there():
    def f(x):
        x[0] = 5.0
        x[0] = 6.0
        return x[0] * x[1]

    _, table = br.debug.record(f)(X.copy())
    assert [r.results[0].text for r in table if r.operation == "setitem"] == ["[ 5. -1.2 2. ]", "[ 6. -1.2 2. ]"]


def test_a_table_as_a_page(tmp_path):
    _, table = br.debug.record(br.grad(loss))(X)
    page = tmp_path / "operations.html"
    table.to_html(page)
    text = page.read_text()
    assert f"<h1>{len(table)} operations</h1>" in text
    assert text.count('<div class="op">') == len(table)
    assert text.count("<details") == text.count("</details>")
    nodes = re.findall(r"<summary>(.*?)</summary>", text)
    assert nodes[:3] == ["forward pass", "loss", f"layer called at {line_of(loss, 1).split(',')[0]}"]
    assert "http" not in text


def test_a_page_and_a_table_of_writes_and_loops(tmp_path):
    result, table = br.debug.record(br.grad(recurrence))(X)
    assert (result == br.grad(recurrence)(X)).all()
    assert len(str(table).splitlines()) == len(table) + 1
    table.to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count('<div class="op">') == len(table)
    assert text.count("<details") == text.count("</details>")
    assert re.findall(r"<summary>(.*?)</summary>", text) == [
        "forward pass",
        "recurrence",
        "backward pass",
        "recurrence",
    ]


def test_a_page_escapes_what_it_shows(tmp_path):
    _, table = br.debug.record(lambda x: np.sin(x))(0.5)
    table.to_html(tmp_path / "page.html")
    assert "<lambda>" not in (tmp_path / "page.html").read_text()
    assert "&lt;lambda&gt;" in (tmp_path / "page.html").read_text()


# ------------------------------------------------------------------------------------------------------------ profile


def test_a_profile_counts_operations_and_lines():
    result, profile = br.debug.profile(loss)(X)
    close(result, loss(X))
    calls = {usage.name: usage.calls for usage in profile.operations}
    assert calls == {"multiply": 3, "tanh": 1, "getitem": 1, "setitem": 1, "sum": 1}
    lines = {usage.name: usage.calls for usage in profile.lines}
    assert lines == {line_of(layer, 1): 2, line_of(loss, 2): 3, line_of(loss, 3): 2}
    assert profile.calls == 7
    assert profile.seconds == pytest.approx(sum(usage.seconds for usage in profile.lines))
    seconds = [usage.seconds for usage in profile.operations]
    assert seconds == sorted(seconds, reverse=True)
    assert str(profile).splitlines()[0].split() == ["operation", "calls", "milliseconds"]


def test_a_profile_of_a_gradient_counts_for_the_lines_differentiated():
    _, forward = br.debug.profile(loss)(X)
    _, both = br.debug.profile(br.grad(loss))(X)
    calls = {usage.name: usage.calls for usage in forward.lines}
    for usage in both.lines:
        assert usage.calls > calls.get(usage.name, 0)


def test_a_profile_of_writes_and_loops():
    for function in (recurrence, br.grad(recurrence)):
        result, profile = br.debug.profile(function)(X)
        assert np.all(result == function(X))
        assert all(usage.name.endswith("in recurrence") for usage in profile.lines)
    gradient, profile = br.grad(br.debug.profile(recurrence), has_aux=True)(X)
    assert (gradient == br.grad(recurrence)(X)).all()
    calls = {usage.name: usage.calls for usage in profile.operations}
    for name in ("getitem", "setitem", "add_at", "sin"):
        assert calls[f"pullback of {name}"] == calls[name]


# ------------------------------------------------------------------------------------ print, callback and breakpoint


def test_print_shows_values_under_every_transformation(capsys):
    def f(x):
        br.debug.print("{} {name}", x, name={"y": x * 2})
        return x * x

    f(1.5)
    br.grad(f)(1.5)
    br.jvp(br.grad(f), (1.5,), (1.0,))
    assert capsys.readouterr().out == "1.5 {'y': 3.0}\n" * 3
    br.vmap(br.grad(f))(np.array([1.0, 2.0]))
    assert capsys.readouterr().out == "[1. 2.] {'y': array([2., 4.])}\n"


def test_print_takes_format_specifications_and_refuses_other_things(capsys):
    br.grad(lambda x: br.debug.print("{:.2f} {!r}", x, "text") or x)(1.234)
    assert capsys.readouterr().out == "1.23 'text'\n"
    with pytest.raises(TypeError, match="takes a format string first, not ndarray"):
        br.debug.print(X)


def test_callback_gets_plain_values_of_its_own():
    seen = []

    def f(x):
        br.debug.callback(lambda value, scale: seen.append((value, scale)), x, scale=2)
        x[0] = 7.0
        return np.sum(x * x)

    x = X.copy()
    gradient = br.grad(f)(x)
    ((value, scale),) = seen
    assert type(value) is np.ndarray
    assert (value == X).all()
    assert scale == 2
    close(gradient, 2 * X * [0, 1, 1])


def test_breakpoint_stops_at_the_users_line(monkeypatch):
    frames = []

    def stop(self, frame):
        frames.append((frame.f_code.co_name, str(frame.f_locals["y"])))

    monkeypatch.setattr(pdb.Pdb, "set_trace", stop)

    def f(x):
        y = x * x
        br.debug.breakpoint()
        return y

    br.grad(f)(3.0)
    assert frames == [("f", "9.0")]


# --------------------------------------------------------------------------------------------------------- debug_nans


def root(x):
    y = x - 1.0
    return np.sum(np.sqrt(y) * 2)


ORIGIN = re.escape(line_of(root, 2))


def test_the_first_operation_that_is_not_finite_is_named():
    message = rf"^{ORIGIN}: sqrt gives nan at index 1 of shape \(2,\), from -1\.0, under br\.grad of root"
    with np.errstate(all="ignore"), br.debug_nans(), pytest.raises(br.NonFiniteError, match=message):
        br.grad(root)(np.array([2.0, 0.0]))


def test_the_first_derivative_that_is_not_finite_is_named():
    x = np.array([2.0, 1.0])
    back = (
        rf"^{ORIGIN}: the derivative of sqrt is inf at index 1 of shape \(2,\), from 0\.0, in the backward pass of br"
    )
    with br.debug_nans(), pytest.raises(br.NonFiniteError, match=back):
        br.grad(root)(x)
    ahead = rf"^{ORIGIN}: the derivative of sqrt is inf at index 1 of shape \(2,\), from 0\.0, under br\.jvp of root"
    with np.errstate(all="ignore"), br.debug_nans(), pytest.raises(br.NonFiniteError, match=ahead):
        br.jvp(root, (x,), (x,))


def test_a_second_derivative_that_is_not_finite_is_named():
    with br.debug_nans(), np.errstate(all="ignore"):
        with pytest.raises(br.NonFiniteError, match="derivative of power"):
            br.grad(br.grad(lambda x: x**1.5))(np.float64(0.0))
        with pytest.raises(br.NonFiniteError, match="derivative of power"):
            br.hessian(lambda x: np.sum(x**1.5))(np.zeros(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: br.vmap(np.log)(np.array([1.0, 0.0])),
        lambda: br.vmap(br.grad(np.sqrt))(np.array([1.0, 0.0])),
        lambda: br.jacrev(np.sqrt)(np.array([1.0, 0.0])),
        lambda: br.vjp(np.sqrt, 0.0)[1](1.0),
        lambda: br.grad(lambda x: np.sum(br.vmap(np.sqrt)(x)))(np.array([1.0, 0.0])),
    ],
    ids=["vmap", "vmap-of-grad", "jacobian", "pullback", "grad-of-vmap"],
)
def test_every_transformation_is_checked(call):
    with np.errstate(all="ignore"), br.debug_nans(), pytest.raises(br.NonFiniteError, match=r"log|sqrt"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: br.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0)))(np.array([4.0, 0.0])),
        lambda: br.grad(lambda x: np.max(np.where(x > 0, x, -np.inf)))(np.array([4.0, -1.0])),
        lambda: br.grad(lambda x: np.sum(x[:1]))(np.array([1.0, np.nan])),
        lambda: br.grad(lambda x: np.sum(np.abs(x) ** 2.5))(np.zeros(2)),
        lambda: br.grad(loss)(X),
    ],
    ids=["not-chosen", "mask", "not-read", "power", "finite"],
)
def test_what_the_engine_makes_finite_is_no_error(call):
    expected = call()
    with br.debug_nans():
        close(call(), expected)


def test_memory_that_is_not_set_yet_is_no_error():
    def f(x):
        out = np.full(3, np.nan)
        for i in range(3):
            out[i] = x[i] * 2
        return np.sum(out)

    with br.debug_nans():
        close(br.grad(f)(X), np.full(3, 2.0))


def test_a_decorated_function_is_checked_without_a_transformation():
    checked = br.debug_nans(root)
    close(checked(np.array([2.0, 5.0])), 6.0)
    with (
        np.errstate(all="ignore"),
        pytest.raises(br.NonFiniteError, match=rf"^{ORIGIN}: sqrt gives nan.*br.debug_nans"),
    ):
        checked(np.zeros(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: br.grad(br.debug_nans(root))(x),
        lambda x: br.debug_nans(br.grad(root))(x),
        lambda x: br.debug.nans()(br.grad(root))(x),
    ],
    ids=["inside", "outside", "called"],
)
def test_a_decorated_function_is_checked_when_it_is_differentiated(call):
    close(call(np.array([2.0, 5.0])), [1.0, 0.5])
    with pytest.raises(br.NonFiniteError, match=f"^{ORIGIN}: the derivative of sqrt is inf"):
        call(np.ones(2))


def test_checking_ends_with_its_scope():
    with br.debug_nans():
        pass
    with np.errstate(all="ignore"):
        assert np.isinf(br.grad(np.sqrt)(0.0))
    assert issubclass(br.NonFiniteError, FloatingPointError)


def test_debugging_while_checking():
    with br.debug_nans(), pytest.raises(br.NonFiniteError, match="the derivative of sqrt"):
        br.debug(br.grad(root), io.StringIO())(np.ones(2))


def test_nothing_is_watched_when_off():
    kinds = []

    def f(x):
        kinds.append(type(x._handler).__name__)
        return x * x

    br.grad(f)(2.0)
    with br.debug_nans():
        br.grad(f)(2.0)
    assert kinds == ["Reverse", "_WatchedReverse"]


# ------------------------------------------------------------------------------------------------------------ the rest


@pytest.mark.parametrize("name", ["record", "profile", "print", "callback", "breakpoint", "nans"])
def test_everything_in_the_namespace_is_documented_and_its_example_runs(name):
    value = getattr(br.debug, name)
    assert inspect.getdoc(value)
    (example,) = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
