"""The functions of `scipy.special`: each is its partial derivatives.

Derivatives are written so that they are accurate wherever the function is, to every order: by recurrences in the
order (Bessel functions, orthogonal polynomials) and by hypergeometric series where the usual formula cancels.  What
has no closed form (the derivative of a Bessel function in its order) is `unknown`, which raises.

Importing this file imports SciPy; `bindrune.scipy.special` does it when the first of these functions is met.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import special

from ..core.array import dtype_of
from ..core.handler import evaluate
from ..core.operation import Op, Row, Rows, elementwise, operation, row, unknown
from .elementwise import pairs, points
from .lanes import aligned, as_stack

__all__: list[str] = []

_ROOT_PI = math.sqrt(math.pi)
_ROOT_2 = math.sqrt(2)
_ROOT_TAU = math.sqrt(2 * math.pi)

# ------------------------------------------------------------------------------------------------------ kinds of entry


def _unary(name: str, partial: Any, low: float, high: float, *edges: float) -> None:
    """Define a function of one operand, sampled in an interval and at edges."""
    elementwise(f"special.{name}", _ufunc(name), partial, rows=points(low, high, *edges))


def _binary(name: str, in_a: Any, in_b: Any, rows: Rows) -> None:
    """Define a function of two operands."""
    elementwise(f"special.{name}", _ufunc(name), in_a, in_b, rows=rows)


def _ufunc(name: str) -> Any:
    """A ufunc by its name; some have names of their own only inside SciPy."""
    return getattr(special._ufuncs, name)


def _no_rule(name: str, operand: str) -> Callable[..., Any]:
    return unknown(f"scipy.special.{name.lstrip('_')}", operand)


def _complex(name: str, rule: Callable[..., Any], low: float, high: float) -> None:
    """Define a function whose results are complex for real operands too, by its derivative times a (co)tangent `v`."""
    operation(f"special.{name}", _ufunc(name), jvp=rule, vjp=rule, batch=as_stack, rows=points(low, high))


def _ordered(name: str, slope: Callable[..., Any], low: float, high: float, first: int = 1) -> None:
    """Define a function of a parameter, without a derivative, and a variable; parameters are sampled from `first`."""

    def rows() -> Iterable[Row]:
        x = low + (high - low) * np.array([0.13, 0.37, 0.52, 0.71, 0.94, 0.28])
        order = first + np.array([0, 1, 2])
        yield row(order, x[:3])
        yield row(order[:, None], x[:2])
        yield row(order[:2], x.reshape(3, 2))
        yield row(np.int64(first), x)
        yield row(order, np.float64(x[0]))
        yield row(order[:0], x[:0])

    _binary(name, _no_rule(name, "a"), slope, rows)


def _of_last(name: str, operands: str, rule: Callable[..., Any], *samples: Sequence[Any]) -> None:
    """Define a function of several operands by the derivative in the last one, multiplied by a (co)tangent `v`."""
    unknowns = [_no_rule(name, operand) for operand in operands.split()[:-1]]

    def rows() -> Iterable[Row]:
        for parameters in samples:
            *fixed, variable = parameters
            x = np.asarray(variable)
            yield row(*fixed, x)
            yield row(*fixed, np.float64(x[0]))
            yield row(*(np.array([p, p]) for p in fixed), x[:2].reshape(2, 1))
            yield row(*fixed, x[:0])

    operation(
        f"special.{name}",
        _ufunc(name),
        jvp=(*unknowns, rule),
        vjp=(*unknowns, rule),
        operands=operands,
        batch=aligned,
        rows=rows,
    )


def _several(name: str, slopes: Callable[[Any, Any], tuple[Any, ...]], low: float, high: float) -> None:
    """Define a function with several results by their derivatives, from the operand and the results."""

    def push(t: Any, x: Any, y: Any) -> Any:
        return tuple(t * slope for slope in slopes(x, y))

    def pull(ct: Any, x: Any, y: Any) -> Any:
        return sum(c * slope for c, slope in zip(ct, slopes(x, y), strict=True))

    operation(f"special.{name}", _ufunc(name), jvp=push, vjp=pull, batch=as_stack, rows=points(low, high))


def _series(a: float, b: float, c: float, x: Any) -> Any:
    """The hypergeometric series 2F1 in the precision of `x`; SciPy's ufunc prefers double precision."""
    return special.hyp2f1(a, b, c, x).astype(dtype_of(x), copy=False)


def _over(a: Any, b: Any) -> Any:
    """The quotient, and zero where both are zero."""
    return a / np.where((a == 0) & (b == 0), 1, b)


# ---------------------------------------------------------------------------- error functions, normal and logistic

_unary("erf", lambda x: 2 / _ROOT_PI * np.exp(-x * x), -2, 2)
_unary("erfc", lambda x: -2 / _ROOT_PI * np.exp(-x * x), -2, 2)
_unary("erfcx", lambda x, y: 2 * (x * y - 1 / _ROOT_PI), -1, 2)
_unary("erfi", lambda x: 2 / _ROOT_PI * np.exp(x * x), -1.5, 1.5)
_unary("dawsn", lambda x, y: 1 - 2 * x * y, -2, 2)
_unary("erfinv", lambda y: _ROOT_PI / 2 * np.exp(y * y), -0.9, 0.9)
_unary("erfcinv", lambda y: -_ROOT_PI / 2 * np.exp(y * y), 0.1, 1.9)
_unary("ndtr", lambda x: np.exp(-x * x / 2) / _ROOT_TAU, -2, 2)
_unary("log_ndtr", lambda x: 2 / (_ROOT_TAU * special.erfcx(-x / _ROOT_2)), -2, 2)
_unary("ndtri", lambda y: _ROOT_TAU * np.exp(y * y / 2), 0.1, 0.9)
_unary("ndtri_exp", lambda y: _ROOT_TAU / 2 * special.erfcx(-y / _ROOT_2), -3, -0.1)
_unary("expit", lambda x, y: y * special.expit(-x), -3, 3, -1000.0, 1000.0)
_unary("log_expit", lambda x: special.expit(-x), -3, 3)
_unary("logit", lambda x: 1 / (x * (1 - x)), 0.1, 0.9)
_complex("wofz", lambda v, x, y: v * (2j / _ROOT_PI - 2 * x * y), -1, 1)
_binary(
    "owens_t",
    lambda a, b: -np.exp(-a * a / 2) * special.erf(a * b / _ROOT_2) / (2 * _ROOT_TAU),
    lambda a, b: np.exp(-a * a * (1 + b * b) / 2) / (2 * math.pi * (1 + b * b)),
    pairs(0.2, 2),
)

# -------------------------------------------------------------------------------------------- gamma, beta and zeta

_unary("gamma", lambda x, y: y * special.digamma(x), 0.3, 4)
_unary("gammaln", lambda x: special.digamma(x), 0.3, 4)
_unary("loggamma", lambda x: special.digamma(x), 0.3, 4)
_unary("rgamma", lambda x, y: -y * special.digamma(x), 0.3, 4)
_unary("gammasgn", None, -2.5, -1.5)
_unary("psi", lambda x: special._ufuncs._zeta(2, x), 0.3, 4)
for _name in ("_riemann_zeta", "zetac"):
    _integers: Rows = lambda: [row(np.array([2, 3, 4])), row(np.int64(2))]  # noqa: E731
    elementwise(f"special.{_name}", _ufunc(_name), _no_rule("zeta", "x"), rows=_integers)
_ordered("_zeta", lambda a, b: -a * special._ufuncs._zeta(a + 1, b), 0.5, 3, first=2)
_binary(
    "beta",
    lambda y, a, b: y * (special.digamma(a) - special.digamma(a + b)),
    lambda y, a, b: y * (special.digamma(b) - special.digamma(a + b)),
    pairs(0.3, 3),
)
_binary(
    "betaln",
    lambda a, b: special.digamma(a) - special.digamma(a + b),
    lambda a, b: special.digamma(b) - special.digamma(a + b),
    pairs(0.3, 3),
)
_binary(
    "poch",
    lambda y, a, b: y * (special.digamma(a + b) - special.digamma(a)),
    lambda y, a, b: y * special.digamma(a + b),
    pairs(0.3, 3),
)
_binary(
    "binom",
    lambda y, a, b: y * (special.digamma(a + 1) - special.digamma(a - b + 1)),
    lambda y, a, b: y * (special.digamma(a - b + 1) - special.digamma(b + 1)),
    pairs(3, 5, 0.5, 2.5),
)


def _gamma_density(a: Any, x: Any) -> Any:
    return np.exp(special.xlogy(a - 1, x) - x - special.gammaln(a))


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    return np.exp(special.xlogy(a - 1, x) + special.xlog1py(b - 1, -x) - special.betaln(a, b))


_ordered("gammainc", lambda a, b: _gamma_density(a, b), 0.3, 4)
_ordered("gammaincc", lambda a, b: -_gamma_density(a, b), 0.3, 4)
_ordered("gammaincinv", lambda y, a: 1 / _gamma_density(a, y), 0.1, 0.9)
_ordered("gammainccinv", lambda y, a: -1 / _gamma_density(a, y), 0.1, 0.9)
_inside = [0.2, 0.55, 0.8]
_of_last("betainc", "a b x", lambda v, a, b, x: v * _beta_density(a, b, x), (2, 3, _inside))
_of_last("betaincc", "a b x", lambda v, a, b, x: -v * _beta_density(a, b, x), (2, 3, _inside))
_of_last("betaincinv", "a b x", lambda v, a, b, y: v / _beta_density(a, b, y), (2, 3, _inside))
_of_last("betainccinv", "a b x", lambda v, a, b, y: -v / _beta_density(a, b, y), (2, 3, _inside))

# --------------------------------------------------------------------- exponentials, logarithms and their integrals

_unary("expm1", lambda x: np.exp(x), -2, 2)
_unary("log1p", lambda x: 1 / (1 + x), -0.7, 3)
_unary("exp2", lambda y: y * math.log(2), -2, 2)
_unary("exp10", lambda y: y * math.log(10), -2, 2)
_unary("cbrt", lambda y: 1 / (3 * y * y), 0.2, 3)
_unary("cosm1", lambda x: -np.sin(x), -2, 2)
_unary("sindg", lambda x: math.pi / 180 * special.cosdg(x), -80, 80)
_unary("cosdg", lambda x: -math.pi / 180 * special.sindg(x), -80, 80)
_unary("tandg", lambda y: math.pi / 180 * (1 + y * y), -60, 60)
_unary("cotdg", lambda y: -math.pi / 180 * (1 + y * y), 20, 80)
_unary("exprel", lambda x: special.hyp1f1(2, 3, x) / 2, -2, 2, 0.0)
_unary("expi", lambda x: np.exp(x) / x, 0.3, 3)
_unary("exp1", lambda x: -np.exp(-x) / x, 0.3, 3)
_unary("spence", lambda x: -_series(1, 1, 2, 1 - x), 0.2, 1.8)
_unary("wrightomega", lambda y: y / (1 + y), -2, 2)
_binary(
    "powm1",
    lambda a, b: b * a ** (b - 1),
    lambda a, b: a**b * np.log(a),
    pairs(0.3, 2, -1.5, 1.5),
)
_ordered(
    "expn", lambda a, b: -np.where(a == 0, np.exp(-b) * (1 + 1 / b) / b, special.expn(np.maximum(a - 1, 0), b)), 0.3, 3
)
_several("sici", lambda x, y: (special.hyp0f1(1.5, -x * x / 4), np.cos(x) / x), 0.3, 3)
_several("shichi", lambda x, y: (special.hyp0f1(1.5, x * x / 4), np.cosh(x) / x), 0.3, 3)
_several("fresnel", lambda x, y: (np.sin(math.pi / 2 * x * x), np.cos(math.pi / 2 * x * x)), -2, 2)
_several("airy", lambda x, y: (y[1], x * y[0], y[3], x * y[2]), -2, 2)

# --------------------------------------------------------------------------------- information and transformations

_unary("entr", lambda x: -np.log(x) - 1, 0.2, 2)
_binary("rel_entr", lambda a, b: np.log(a / b) + 1, lambda a, b: -_over(a, b), pairs(0.3, 2))
_binary("kl_div", lambda a, b: np.log(a / b), lambda a, b: 1 - _over(a, b), pairs(0.3, 2))
_binary("xlogy", lambda b: np.log(b), lambda a, b: _over(a, b), pairs(-2, 2, 0.3, 2))
_binary("xlog1py", lambda b: np.log1p(b), lambda a, b: _over(a, 1 + b), pairs(-2, 2, -0.7, 2))


def _boxcox_in_power(logarithm: Any, power: Any) -> Any:
    """The derivative of log * exprel(power * log) in the power."""
    return logarithm * logarithm * special.hyp1f1(2, 3, power * logarithm) / 2


def _inverse_boxcox_in_power(y: Any, a: Any, b: Any) -> Any:
    """The derivative in b of exp(log1p(a * b) / b), which is y."""
    return -y * a * a * special.hyp2f1(2, 2, 3, -a * b) / 2


_boxes = pairs(0.3, 2, -1.5, 1.5)
_binary("boxcox", lambda a, b: a ** (b - 1), lambda a, b: _boxcox_in_power(np.log(a), b), _boxes)
_binary("boxcox1p", lambda a, b: (1 + a) ** (b - 1), lambda a, b: _boxcox_in_power(np.log1p(a), b), _boxes)
_boxed = pairs(0.1, 0.9, -0.8, 1.5)
_binary("inv_boxcox", lambda y, b: y ** (1 - b), _inverse_boxcox_in_power, _boxed)
_binary(
    "inv_boxcox1p",
    lambda y, b: (1 + y) ** (1 - b),
    lambda y, a, b: _inverse_boxcox_in_power(1 + y, a, b),
    _boxed,
)
_binary(
    "huber",
    lambda a, b: np.maximum(np.abs(b) - a, 0),
    lambda a, b: np.clip(b, -a, a),
    pairs(0.3, 0.9, 1, 2),
)
_binary(
    "pseudo_huber",
    lambda y, a, b: 2 * y / a - b * b / (a * np.sqrt(1 + (b / a) ** 2)),
    lambda a, b: b / np.sqrt(1 + (b / a) ** 2),
    pairs(0.5, 2),
)

# ------------------------------------------------------------------------------------------------ Bessel functions

_unary("j0", lambda x: -special.j1(x), -2, 3, 0.0)
_unary("j1", lambda x: (special.j0(x) - special.jv(2, x)) / 2, -2, 3, 0.0)
_unary("y0", lambda x: -special.y1(x), 0.3, 3)
_unary("y1", lambda x: (special.y0(x) - special.yv(2, x)) / 2, 0.3, 3)
_unary("i0", lambda x: special.i1(x), -2, 3, 0.0)
_unary("i1", lambda x: (special.i0(x) + special.iv(2, x)) / 2, -2, 3, 0.0)
_unary("i0e", lambda x, y: special.i1e(x) - np.sign(x) * y, 0.3, 3)
_unary("i1e", lambda x, y: (special.i0e(x) + special.ive(2, x)) / 2 - np.sign(x) * y, 0.3, 3)
_unary("k0", lambda x: -special.k1(x), 0.3, 3)
_unary("k1", lambda x: -(special.k0(x) + special.kv(2, x)) / 2, 0.3, 3)
_unary("k0e", lambda x, y: y - special.k1e(x), 0.3, 3)
_unary("k1e", lambda x, y: y - (special.k0e(x) + special.kve(2, x)) / 2, 0.3, 3)


def _cylindrical(name: str, below: float, above: float) -> None:
    """Define a Bessel function by what the neighbouring orders contribute to its derivative."""
    function = _ufunc(name)
    _ordered(name, lambda a, b: below * function(a - 1, b) + above * function(a + 1, b), 0.3, 3)


def _spherical(name: str, below: int, above: int) -> None:
    """The same for spherical ones, whose shares depend on the order."""
    function = _ufunc(name)

    def slope(a: Any, b: Any) -> Any:
        return (below * a * function(np.maximum(a - 1, 0), b) + above * (a + 1) * function(a + 1, b)) / (2 * a + 1)

    _ordered(name, slope, 0.3, 3, first=0)


for _name in ("jv", "yv", "yn", "hankel1", "hankel2"):
    _cylindrical(_name, 0.5, -0.5)
_cylindrical("iv", 0.5, 0.5)
_cylindrical("kv", -0.5, -0.5)
_cylindrical("kn", -0.5, -0.5)
_ordered("ive", lambda y, a, b: (special.ive(a - 1, b) + special.ive(a + 1, b)) / 2 - np.sign(b) * y, 0.3, 3)
_ordered("kve", lambda y, a, b: y - (special.kve(a - 1, b) + special.kve(a + 1, b)) / 2, 0.3, 3)
_spherical("_spherical_jn", 1, -1)
_spherical("_spherical_yn", 1, -1)
_spherical("_spherical_in", 1, 1)
_spherical("_spherical_kn", -1, -1)

# -------------------------------------------------------------- hypergeometric and elliptic functions, polynomials

_ordered("hyp0f1", lambda a, b: special.hyp0f1(a + 1, b) / a, -2, 2)
_of_last("hyp1f1", "a b x", lambda v, a, b, x: v * a / b * special.hyp1f1(a + 1, b + 1, x), (1, 3, [-1.2, 0.4, 1.3]))
_of_last(
    "hyp2f1",
    "a b c x",
    lambda v, a, b, c, x: v * a * b / c * special.hyp2f1(a + 1, b + 1, c + 1, x),
    (1, 2, 4, [-0.7, 0.2, 0.5]),
)
_of_last("hyperu", "a b x", lambda v, a, b, x: -v * a * special.hyperu(a + 1, b + 1, x), (1, 2, [0.4, 1.3, 2.2]))
_unary("ellipk", lambda x: math.pi / 8 * _series(1.5, 1.5, 2, x), -1, 0.8)
_unary("ellipkm1", lambda x: -math.pi / 8 * _series(1.5, 1.5, 2, 1 - x), 0.2, 1.8)
_unary("ellipe", lambda x: -math.pi / 8 * _series(0.5, 1.5, 2, x), -1, 0.8)
_binary(
    "ellipkinc",
    lambda a, b: 1 / np.sqrt(1 - b * np.sin(a) ** 2),
    lambda y, a, b: (
        ((special.ellipeinc(a, b) / b - np.sin(2 * a) / (2 * np.sqrt(1 - b * np.sin(a) ** 2))) / (1 - b) - y / b) / 2
    ),
    pairs(0.2, 0.9),
)
_binary(
    "ellipeinc",
    lambda a, b: np.sqrt(1 - b * np.sin(a) ** 2),
    lambda y, a, b: (y - special.ellipkinc(a, b)) / (2 * b),
    pairs(0.2, 0.9),
)


def _lowered(n: Any, polynomial: Any) -> Any:
    """A polynomial of one degree less than `n`; zero where there is none."""
    return np.where(n == 0, 0, polynomial)


def _less(n: Any) -> Any:
    return np.maximum(n - 1, 0)


_ordered("eval_hermite", lambda a, b: 2 * a * special.eval_hermite(_less(a), b), -2, 2, first=0)
_ordered("eval_hermitenorm", lambda a, b: a * special.eval_hermitenorm(_less(a), b), -2, 2, first=0)
_ordered("eval_chebyt", lambda a, b: a * special.eval_chebyu(_less(a), b), -1, 1, first=0)
_ordered("eval_chebyu", lambda a, b: 2 * _lowered(a, special.eval_gegenbauer(_less(a), 2, b)), -1, 1, first=0)
_ordered(
    "eval_legendre", lambda a, b: (a + 1) / 2 * _lowered(a, special.eval_jacobi(_less(a), 1, 1, b)), -1, 1, first=0
)
_ordered("eval_laguerre", lambda a, b: -_lowered(a, special.eval_genlaguerre(_less(a), 1, b)), 0.2, 3, first=0)
_signed = [-0.7, 0.2, 0.6]
_of_last(
    "eval_genlaguerre",
    "n a x",
    lambda v, n, a, x: -v * _lowered(n, special.eval_genlaguerre(_less(n), a + 1, x)),
    (0, 1, _signed),
    (3, 1, _signed),
)
_of_last(
    "eval_gegenbauer",
    "n a x",
    lambda v, n, a, x: v * 2 * a * _lowered(n, special.eval_gegenbauer(_less(n), a + 1, x)),
    (0, 1, _signed),
    (3, 1, _signed),
)
_of_last(
    "eval_jacobi",
    "n a b x",
    lambda v, n, a, b, x: v * (n + a + b + 1) / 2 * _lowered(n, special.eval_jacobi(_less(n), a + 1, b + 1, x)),
    (0, 1, 2, _signed),
    (3, 1, 2, _signed),
)


def _lambertw_rule(v: Any, y: Any) -> Any:
    return v * np.exp(-y) / (1 + y)


operation(
    "special._lambertw",
    _ufunc("_lambertw"),
    jvp=(_lambertw_rule, _no_rule("_lambertw", "k"), None),
    vjp=(_lambertw_rule, _no_rule("_lambertw", "k"), None),
    operands="z k tolerance",
    batch=aligned,
    rows=lambda: [row(np.array([0.5, 1.2]), np.int64(0), 5e-5), row(np.float64(-0.2), np.array([0, -1]), 5e-5)],
)

# ----------------------------------------------------------------------------------------- NumPy's, with derivatives

elementwise(
    "sinc",
    np.sinc,
    lambda x: -(math.pi**2) / 3 * x * special.hyp0f1(2.5, -((math.pi / 2 * x) ** 2)),
    rows=points(-2, 2, 0.0),
)
elementwise("i0", np.i0, lambda x: special.i1(x), rows=lambda: [row(np.array([-1.2, 0.0, 2.3])), row(np.zeros((0, 2)))])

# -------------------------------------------------------------------------------------------------- softmax and its kin


def _batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, {**params, "axis": tuple(i + 1 for i in params["axis"])})


def _shares(a: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """exp(a - y), the share of each element in a log-sum-exp; nothing at -inf, all at +inf."""
    found = np.exp(a - (y if keepdims else np.expand_dims(y, axis)))
    return found if dtype_of(a).kind == "c" else np.where(np.isinf(a), a > 0, found)


def _push_logsumexp(t: Any, a: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sum(t * _shares(a, y, axis, keepdims), axis=axis, keepdims=keepdims)


def _pull_logsumexp(ct: Any, a: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return (ct if keepdims else np.expand_dims(ct, axis)) * _shares(a, y, axis, keepdims)


def _axis_rows(**params: Any) -> Rows:
    x = np.array([[0.3, -1.2, 0.8], [2.5, 0.7, -0.4]])
    return lambda: [
        row(x[0], axis=(0,), **params),
        row(x, axis=(1,), **params),
        row(x, axis=(0, 1), **params),
        row(x.reshape(1, 2, 3), axis=(1,), **params),
        row(x.astype(np.float32), axis=(0,), **params),
    ]


def _logsumexp_rows() -> Iterable[Row]:
    yield from _axis_rows(keepdims=False)()
    yield from _axis_rows(keepdims=True)()
    yield row(np.array([0.3 + 0.2j, -0.4 + 1.1j]), axis=(0,), keepdims=False)
    yield row(np.array([0.3, -np.inf]), axis=(0,), keepdims=False, smooth=False)


def _logsumexp(a: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    if not a.size:
        # SciPy fails on some shapes of nothing.
        return np.log(np.sum(np.exp(a), axis=axis, keepdims=keepdims))
    return special.logsumexp(a, axis, keepdims=keepdims)


operation(
    "special.logsumexp",
    _logsumexp,
    jvp=_push_logsumexp,
    vjp=_pull_logsumexp,
    operands="a",
    batch=_batch,
    rows=_logsumexp_rows,
)


def _weighted(a: Any, b: Any, axis: tuple[int, ...]) -> Any:
    if not a.size:
        total = np.sum(np.exp(a) * b, axis=axis)
        return np.log(total), np.sign(total)
    return tuple(special.logsumexp(a, axis, b, return_sign=True))


def _push_weighted_in_a(t: Any, a: Any, b: Any, y: Any, axis: tuple[int, ...]) -> Any:
    value, sign = y
    return sign * np.sum(t * b * _shares(a, value, axis, False), axis=axis), 0 * sign


def _push_weighted_in_b(t: Any, a: Any, y: Any, axis: tuple[int, ...]) -> Any:
    value, sign = y
    return sign * np.sum(t * _shares(a, value, axis, False), axis=axis), 0 * sign


def _pull_weighted_in_a(ct: Any, a: Any, b: Any, y: Any, axis: tuple[int, ...]) -> Any:
    value, sign = y
    return np.expand_dims(ct[0] * sign, axis) * b * _shares(a, value, axis, False)


def _pull_weighted_in_b(ct: Any, a: Any, y: Any, axis: tuple[int, ...]) -> Any:
    value, sign = y
    return np.expand_dims(ct[0] * sign, axis) * _shares(a, value, axis, False)


def _batch_weighted(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    lanes = [v if b else np.broadcast_to(v, (size, *np.shape(v))) for v, b in zip(values, batched, strict=True)]
    return _batch(op, size, lanes, batched, params)


def _weighted_rows() -> Iterable[Row]:
    x = np.array([[0.3, -1.2, 0.8], [2.5, 0.7, -0.4]])
    yield row(x, np.array([[0.5, 1.0, -2.0], [1.0, 0.3, 2.0]]), axis=(1,))
    yield row(x[0], np.array([0.5, 1.0, 2.0]), axis=(0,))
    yield row(x, x**2, axis=(0, 1))


operation(
    "special.weighted_logsumexp",
    _weighted,
    jvp=(_push_weighted_in_a, _push_weighted_in_b),
    vjp=(_pull_weighted_in_a, _pull_weighted_in_b),
    operands="a b",
    batch=_batch_weighted,
    rows=_weighted_rows,
)
operation(
    "special.softmax",
    lambda x, axis: special.softmax(x, axis),
    jvp=lambda t, y, axis: y * (t - np.sum(y * t, axis=axis, keepdims=True)),
    vjp=lambda ct, y, axis: y * (ct - np.sum(y * ct, axis=axis, keepdims=True)),
    batch=_batch,
    rows=_axis_rows(),
)
operation(
    "special.log_softmax",
    lambda x, axis: special.log_softmax(x, axis),
    jvp=lambda t, y, axis: t - np.sum(np.exp(y) * t, axis=axis, keepdims=True),
    vjp=lambda ct, y, axis: ct - np.exp(y) * np.sum(ct, axis=axis, keepdims=True),
    batch=_batch,
    rows=_axis_rows(),
)
