"""What goes wrong says so: in the right class, naming the function, the argument and the remedy."""

import inspect
import math
import textwrap
import traceback
from pathlib import Path

import numpy as np
import pytest

import bindrune as br
from bindrune.core import errors
from expect import close

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, br.BindruneError)]
CAUSES = [kind for kind in CLASSES if kind is not br.BindruneError]


def weighted_sum(x, w):
    return np.sum(x * w)


# ---------------------------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize("kind", CAUSES)
def test_the_documented_example_fails_as_documented(kind):
    _, _, rest = inspect.getdoc(kind).partition("Fails::\n")
    example, _, remedy = rest.partition("\nRemedy:")
    assert remedy.strip(), "an error class documents its remedy"
    with pytest.raises(kind):
        exec(textwrap.dedent(example), {"np": np, "br": br, "math": math})


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_public(kind):
    assert getattr(br, kind.__name__) is kind


def test_classes_are_also_those_python_users_expect():
    assert issubclass(br.NonDifferentiableError, TypeError)
    assert issubclass(br.BatchSizeError, ValueError)
    assert issubclass(br.UnsupportedError, NotImplementedError)


# -------------------------------------------------------------------------------------------- arguments and results


@pytest.mark.parametrize(
    ("argument", "where"),
    [
        (3, "x has dtype int64"),
        (np.arange(3), "x has dtype int64"),
        (np.array([True]), "x has dtype bool"),
        ({"w": [np.ones(2), np.arange(2)]}, r"x\['w'\]\[1\] has dtype int64"),
        ("text", "x has 'text'"),
        ([1.0, "text"], r"x\[1\] has 'text'"),
        (np.array(["a"], object), "x has dtype object"),
    ],
    ids=["int", "integers", "booleans", "in-a-tree", "string", "string-in-a-list", "objects"],
)
def test_an_argument_without_derivative(argument, where):
    message = rf"br\.grad of .*first.*: {where}, which has no derivative\. Pass a float .*argnums"

    def first(x, w):
        return 1.0

    with pytest.raises(br.NonDifferentiableError, match=message):
        br.grad(first)(argument, 1.0)


def test_an_integer_argument_of_vjp_and_jvp():
    with pytest.raises(br.NonDifferentiableError, match=r"br\.vjp of .*weighted_sum.*: w has dtype int64"):
        br.vjp(weighted_sum, np.ones(3), np.arange(3))
    with pytest.raises(br.TangentError, match=r"br\.jvp of .*weighted_sum.*: tangent of w is not zero.* int64"):
        br.jvp(weighted_sum, (np.ones(3), np.arange(3)), (np.ones(3), np.arange(3)))


def test_an_integer_argument_that_is_not_chosen_is_welcome():
    close(br.grad(weighted_sum)(np.ones(3), np.arange(3)), [0, 1, 2])


@pytest.mark.parametrize(
    ("result", "what"),
    [
        (np.ones(3), r"an array of shape \(3,\)"),
        (np.ones((1, 1)), r"an array of shape \(1, 1\)"),
        ((1.0, 2.0), "tuple"),
        (None, "NoneType"),
        ("text", "text|str"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_result_that_is_not_one_real_number(result, what):
    def constant(x):
        return result

    with pytest.raises(br.NonScalarOutputError, match=rf"br\.grad of .*constant.*: the function returned .*({what})"):
        br.grad(constant)(1.0)


def test_a_result_that_is_not_scalar_suggests_vjp():
    with pytest.raises(br.NonScalarOutputError, match=r"np\.sum.*br\.vjp"):
        br.value_and_grad(lambda x: x * x)(np.ones(3))


@pytest.mark.parametrize(
    ("tangent", "message"),
    [
        (({"a": np.ones(4)},), r"br\.jvp of .*scaled.*: tangent of p\['a'\] has shape \(4,\), the argument has \(3,\)"),
        (({"a": np.ones(3) * 1j},), r"tangent of p\['a'\] has dtype complex128, the argument has float64"),
        (({"b": np.ones(3)},), r"tangent of p has the structure \{'b': \*\}, the argument \{'a': \*\}"),
        (({"a": "text"},), r"tangent of p\['a'\] is 'text'"),
        ((), "1 primals, but 0 tangents"),
        (np.ones(3), "tangents must be a tuple or list"),
    ],
    ids=["shape", "dtype", "structure", "string", "count", "no-tuple"],
)
def test_a_tangent_that_does_not_fit(tangent, message):
    def scaled(p):
        return 2 * p["a"]

    with pytest.raises(br.TangentError, match=message):
        br.jvp(scaled, ({"a": np.ones(3)},), tangent)


@pytest.mark.parametrize(
    ("cotangent", "message"),
    [
        ({"y": np.ones(4)}, r"br\.vjp of .*scaled.*: cotangent\['y'\] has shape \(4,\), the result has \(3,\)"),
        ({"y": np.ones(3) * 1j}, r"cotangent\['y'\] has dtype complex128, the result has float64"),
        (np.ones(3), r"cotangent has the structure \*, the result \{'y': \*\}"),
        ({"y": "text"}, r"cotangent\['y'\] is 'text'"),
    ],
    ids=["shape", "dtype", "structure", "string"],
)
def test_a_cotangent_that_does_not_fit(cotangent, message):
    def scaled(a):
        return {"y": 2 * a}

    _, pullback = br.vjp(scaled, np.ones(3))
    with pytest.raises(br.CotangentError, match=message):
        pullback(cotangent)


def test_batch_sizes_that_differ_are_both_named():
    with pytest.raises(
        br.BatchSizeError,
        match=r"br\.vmap of .*weighted_sum.*: axis 0 of x \(shape \(3, 2\)\) has 3 lanes, but axis 0 of w "
        r"\(shape \(4, 2\)\) has 4",
    ):
        br.vmap(weighted_sum)(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(br.BatchSizeError, match=r"axis 0 of x\['a'\].*has 3 lanes, but axis 0 of x\['b'\].*has 2"):
        br.vmap(lambda x: x["a"])({"a": np.ones(3), "b": np.ones(2)})
    with pytest.raises(br.BatchSizeError, match=r"axis_size has 5 lanes, but axis 0 of x .* has 3"):
        br.vmap(lambda x: x, axis_size=5)(np.ones(3))


@pytest.mark.parametrize(
    ("out_axes", "message"),
    [
        (None, "out_axes=None, but the result differs between the lanes"),
        (2, "out_axes=2, but the result has 2 axes"),
        ((0, 0), r"out_axes=\(0, 0\) does not fit"),
    ],
)
def test_out_axes_that_do_not_fit(out_axes, message):
    with pytest.raises(br.BatchSizeError, match=message):
        br.vmap(lambda x: x, out_axes=out_axes)(np.ones((3, 2)))


def test_a_result_that_cannot_be_stacked():
    with pytest.raises(br.BatchSizeError, match="the result is 'text', not an array or number"):
        br.vmap(lambda x: "text")(np.ones(3))


def test_something_that_is_not_a_function():
    for transform in (br.grad, br.value_and_grad, br.vmap):
        with pytest.raises(TypeError, match="takes a function, not 3"):
            transform(3)
    for transform in (lambda: br.vjp(3, 1.0), lambda: br.jvp(3, (1.0,), (1.0,))):
        with pytest.raises(TypeError, match="takes a function, not 3"):
            transform()


# ------------------------------------------------------------------------------------------------ where values end


@pytest.mark.parametrize(
    "read",
    [
        lambda r: bool(r),
        lambda r: [v for v in [1.0] if r > 0],
        lambda r: np.ones(4)[: int(r)],
        lambda r: [1.0, 2.0][r.astype(int)],
        lambda r: sum(1.0 for _ in range(r.astype(int))),
    ],
    ids=["bool", "condition-of-a-comprehension", "int", "list-index", "range"],
)
def test_python_cannot_read_a_value_that_differs_between_lanes(read):
    with pytest.raises(br.TracedConditionError, match=r"test_errors\.py:\d+, in .*br\.vmap of .*np\.where"):
        br.vmap(read)(np.ones(3))


@pytest.mark.parametrize(
    "freeze",
    [
        lambda x: math.frexp(x)[0],
        lambda x: "%f" % x,  # noqa: UP031
        lambda x: np.frombuffer(np.array([1.0]).tobytes()) + memoryview(x),
        lambda x: float.__call__(x),
        lambda x: x.tobytes(),
    ],
    ids=["frexp", "percent-format", "buffer", "float", "tobytes"],
)
def test_code_that_would_see_a_frozen_constant(freeze):
    with pytest.raises((br.UnreachableError, TypeError)):
        br.grad(freeze)(2.0)


def test_an_unreachable_function_names_line_transformation_and_remedy():
    def loss(x):
        return math.frexp(x)[0]

    with pytest.raises(
        br.UnreachableError,
        match=r"test_errors\.py:\d+, in loss: math\.frexp.*: float\(\) .*br\.grad of .*loss.*Use the NumPy function",
    ):
        br.grad(loss)(2.0)


def test_formatting_shows_the_value():
    close(br.grad(lambda x: (x * x, f"{x:.2f} {x}"), has_aux=True)(2.0)[0], 4)
    assert br.grad(lambda x: (x * x, f"{x:.2f} {x}"), has_aux=True)(2.0)[1] == "2.00 2.0"


@pytest.mark.parametrize(
    "use",
    [
        lambda kept: kept + 1,
        lambda kept: kept[0],
        lambda kept: np.sin(kept),
        lambda kept: kept.shape,
        lambda kept: bool(kept[0] > 0),
        lambda kept: kept.__setitem__(0, 1.0),
        lambda kept: str(kept),
    ],
    ids=["operator", "index", "ufunc", "shape", "bool", "write", "str"],
)
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: br.grad(f)(np.ones(3)),
        lambda f: br.jvp(f, (np.ones(3),), (np.ones(3),)),
        lambda f: br.vjp(f, np.ones(3)),
        lambda f: br.vmap(f)(np.ones((2, 3))),
    ],
    ids=["grad", "jvp", "vjp", "vmap"],
)
def test_a_value_that_escaped(transform, use):
    kept = []

    def keeping(x):
        kept.append(x * x)
        return np.sum(x)

    transform(keeping)
    with pytest.raises(br.EscapedValueError, match=r"test_errors\.py:\d+.*made inside br\.\w+ of .*keeping.*has_aux"):
        use(kept[0])


def test_an_escaped_value_can_still_be_shown_by_a_debugger():
    kept = []
    br.grad(lambda x: kept.append(x) or np.sum(x))(np.ones(3))
    assert "br.grad" in repr(kept[0])


def test_a_write_that_has_no_meaning():
    def write(x, out):
        out[0] = x
        return x

    with pytest.raises(br.MutationError, match=r"br\.vmap of .*write.*the same for all lanes.*Map over it"):
        br.vmap(write, in_axes=(0, None))(np.ones(4), np.zeros(3))


def test_a_ufunc_without_rule():
    doubled = np.frompyfunc(lambda x: 2 * x, 1, 1)
    with pytest.raises(
        br.UnsupportedError, match=r"test_errors\.py:\d+.*'<lambda> \(vectorized\)' has no derivative rule"
    ):
        br.grad(lambda x: np.sum(doubled(x)))(np.ones(4))


def test_a_function_without_rule():
    with pytest.raises(br.UnsupportedError, match=r"test_errors\.py:\d+.*numpy\.packbits has no rule"):
        br.grad(lambda x: np.sum(np.packbits(x > 0) * 1.0))(np.ones(4))


# ---------------------------------------------------------------------------------------------- the user's own errors


class CustomError(Exception):
    """Raised by user code."""


def failing(x):
    raise CustomError(f"mine, of {np.sum(x * x)}")


def engine_frames(error):
    """The frames of a traceback that lie in bindrune."""
    package = Path(br.__file__).parent
    return [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(package)]


TRANSFORMED = {
    "grad": lambda f: br.grad(f)(np.ones(3)),
    "vjp": lambda f: br.vjp(f, np.ones(3)),
    "jvp": lambda f: br.jvp(f, (np.ones(3),), (np.ones(3),)),
    "vmap": lambda f: br.vmap(f)(np.ones(3)),
    "nested": lambda f: br.vmap(br.grad(lambda x: br.jvp(f, (x,), (x,))[1]))(np.ones((2, 3))),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_an_error_of_the_users_keeps_its_class_and_only_the_users_frames(name):
    with pytest.raises(CustomError, match="mine") as caught:
        TRANSFORMED[name](failing)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "failing"
    assert engine_frames(caught.value) == []
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_all_frames_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("BINDRUNE_TRACEBACK", "full")
    with pytest.raises(CustomError) as caught:
        br.grad(failing)(np.ones(3))
    assert len(engine_frames(caught.value)) > 2


def test_numpys_own_error_points_at_the_users_line():
    def out_of_bounds(x):
        return x[7]

    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 3") as caught:
        br.grad(out_of_bounds)(np.ones(3))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "out_of_bounds"


@pytest.mark.parametrize("transform", [br.grad, br.vmap, br.jit])
def test_what_an_array_lacks_is_said_of_the_array(transform):
    with pytest.raises(AttributeError, match=r"^'numpy.ndarray' object has no attribute 'bit_length'"):
        transform(lambda x: x.bit_length())(np.ones((2, 3)))
    with pytest.raises(AttributeError, match=r"^'numpy.ndarray' object has no attribute 'foo'"):
        transform(lambda x: x[:].foo)(np.ones((2, 3)))


@pytest.mark.parametrize("name", TRANSFORMED)
def test_an_error_leaves_nothing_behind(name):
    with pytest.raises(CustomError):
        TRANSFORMED[name](failing)
    close(br.grad(lambda x: np.sum(x * x))(np.ones(3)), [2, 2, 2])


def test_an_error_half_way_keeps_the_writes_made_before_it():
    def write_and_fail(x, out):
        out[0] = 5.0
        raise CustomError

    out = np.zeros(2)
    with pytest.raises(CustomError):
        br.grad(write_and_fail)(np.ones(3), out)
    close(out, [5, 0])


def test_an_error_in_a_write_leaves_the_array_as_it_was():
    def program(x):
        y = x * x
        try:
            y[7] = 1.0
        except IndexError:
            y[0] = 0.0
        return np.sum(y)

    close(br.grad(program)(np.ones(3)), [0, 2, 2])
    close(br.jvp(program, (np.ones(3),), (np.ones(3),))[1], 4)
    close(br.vmap(program)(np.ones((2, 3))), [2, 2])
