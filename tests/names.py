"""Where other systems' names are found here: one row for each idea, with an example that the tests run.

``python tests/names.py`` writes `docs/names.md` from the rows.
"""

import ast
import linecache
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.special

import bindrune as br

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "names.md"

OPENING = """# Names

Where the names of JAX and of Rune are found in bindrune. The last line of an example is true; the tests run each,
with `import numpy as np`, `import scipy` and `import bindrune as br`. What has no example is not there yet.

The rows are those of `tests/names.py`, from which this page is generated.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One idea: its names elsewhere, several separated by spaces, ours (or a phrase), and an example of ours.

    The last expression of an example is true.  A row without an example is of something that is not there yet.
    """

    jax: str
    rune: str
    ours: str
    example: str = ""

    def __str__(self) -> str:
        here = self.ours if self.ours[:1].isupper() else _code(self.ours)
        here = here if self.example else "not yet"
        return f"| {_names(self.jax)} | {_names(self.rune)} | {here} | {_code(self.example)} |"


def _code(text: str) -> str:
    return "<br>".join(f"`{line}`" for line in text.splitlines())


def _names(text: str) -> str:
    return ", ".join(map(_code, text.split()))


def run(example: str) -> object:
    """The value of an example's last expression."""
    names = {"np": np, "scipy": scipy, "br": br}
    *first, last = ast.parse(example).body
    assert isinstance(last, ast.Expr)
    # Control flow under vmap is followed where Python can show the source.
    file = f"<example {example}>"
    linecache.cache[file] = (len(example), None, example.splitlines(keepends=True), file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(ast.Module(first, []), file, "exec"), names)
        return eval(compile(ast.Expression(last.value), file, "eval"), names)


def document() -> str:
    """The text of `docs/names.md`."""
    parts = [OPENING]
    for title, rows in SECTIONS.items():
        parts.append(f"## {title}\n\n| JAX | Rune | bindrune | Example |\n|---|---|---|---|")
        parts[-1] += "".join(f"\n{row}" for row in rows) + "\n"
    return "\n".join(parts)


DERIVATIVES = [
    Row("jax.grad", "grad", "br.grad", "br.grad(np.sin)(0.0) == 1"),
    Row("jax.value_and_grad", "value_and_grad", "br.value_and_grad", "br.value_and_grad(np.square)(3.0) == (9, 6)"),
    Row(
        "jax.grad(has_aux=True)",
        "value_and_grad_aux",
        "br.value_and_grad(f, has_aux=True)",
        "br.value_and_grad(lambda x: (x * x, 'aux'), has_aux=True)(3.0) == ((9, 'aux'), 6)",
    ),
    Row(
        "jax.grad(argnums=(0,1))",
        "",
        "br.grad(f, argnums=(0, 1))",
        "br.grad(np.multiply, argnums=(0, 1))(2.0, 3.0) == (3, 2)",
    ),
    Row("jax.vjp", "vjp vjp_fun", "br.vjp", "y, pullback = br.vjp(np.sin, 0.0)\n(y, pullback(2.0)) == (0, (2,))"),
    Row(
        "",
        "vjp2",
        "br.vjp(f, x, y)",
        "y, pullback = br.vjp(np.multiply, 2.0, 3.0)\n(y, pullback(1.0)) == (6, (3, 2))",
    ),
    Row("jax.jvp", "jvp", "br.jvp", "br.jvp(np.sin, (0.0,), (2.0,)) == (0, 2)"),
    Row("", "jvp2", "br.jvp(f, (x, y), (dx, dy))", "br.jvp(np.multiply, (2.0, 3.0), (1.0, 10.0)) == (6, 23)"),
    Row(
        "jax.jvp(has_aux=True)",
        "jvp_aux",
        "br.jvp(f, xs, dxs, has_aux=True)",
        "br.jvp(lambda x: (x * x, 'aux'), (3.0,), (1.0,), has_aux=True) == (9, 6, 'aux')",
    ),
    Row("jax.jacfwd", "jacfwd'", "br.jacfwd", "np.all(br.jacfwd(np.square)(np.ones(2)) == 2 * np.eye(2))"),
    Row("jax.jacrev", "jacrev'", "br.jacrev", "np.all(br.jacrev(np.square)(np.ones(2)) == 2 * np.eye(2))"),
    Row("", "", "br.value_and_jacfwd", "br.value_and_jacfwd(np.square)(3.0) == (9, 6)"),
    Row("", "", "br.value_and_jacrev", "br.value_and_jacrev(np.square)(3.0) == (9, 6)"),
    Row("jax.jacobian", "", "br.jacobian", "np.all(br.jacobian(np.square)(np.ones(2)) == 2 * np.eye(2))"),
    Row(
        "jax.hessian",
        "hessian'",
        "br.hessian",
        "np.all(br.hessian(lambda x: np.sum(x**3))(np.ones(2)) == 6 * np.eye(2))",
    ),
    Row("", "hvp", "br.hvp", "br.hvp(lambda x: x**3, (2.0,), (10.0,)) == 120"),
    Row("jax.linearize", "", "br.linearize", "y, push = br.linearize(np.sin, 0.0)\n(y, push(2.0)) == (0, 2)"),
    Row(
        "jax.linear_transpose",
        "",
        "br.linear_transpose",
        "br.linear_transpose(lambda x: 3 * x, 0.0)(2.0) == (6,)",
    ),
    Row("jax.fwd_and_bwd", "", ""),
    Row("jax.experimental.jet", "", "br.jet"),
    Row(
        "jax.lax.stop_gradient",
        "detach",
        "br.stop_gradient, br.detach",
        "br.grad(lambda x: x * br.stop_gradient(x))(3.0) == br.grad(lambda x: x * br.detach(x))(3.0) == 3",
    ),
    Row("", "no_grad", "br.no_grad", "br.grad(lambda x: x * br.no_grad(np.square)(x))(3.0) == 9"),
]

RULES = [
    Row(
        "jax.custom_jvp",
        "custom_jvp",
        "br.custom_jvp",
        "f = br.custom_jvp(np.sin)\nf.defjvps(lambda t, y, x: 5 * t)\nbr.grad(f)(0.0) == 5",
    ),
    Row(
        "jax.custom_vjp",
        "custom_vjp",
        "br.custom_vjp",
        "f = br.custom_vjp(np.sin)\nf.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (5 * ct,))\nbr.grad(f)(0.0) == 5",
    ),
    Row("jax.custom_gradient", "", "br.custom_gradient"),
    Row(
        "jax.closure_convert",
        "",
        "Nothing to do: what a function captures is followed",
        "br.grad(lambda a: br.grad(lambda x: a * x)(1.0))(2.0) == 1",
    ),
    Row(
        "jax.custom_batching.custom_vmap",
        "",
        "br.custom_vmap",
        "f = br.custom_vmap(np.sin)\nf.def_vmap(lambda n, flags, x: (x + 1, True))\n"
        "np.all(br.vmap(f)(np.zeros(2)) == 1)",
    ),
    Row(
        "jax.ffi.ffi_call",
        "",
        "br.primitive",
        "import math\nf = br.primitive(lambda x: np.float64(math.erf(x)))\n"
        "f.defjvp(lambda xs, ts, y: 2 * ts[0])\nbr.grad(f)(0.0) == 2",
    ),
    Row(
        "jax.lax.custom_linear_solve",
        "",
        "br.custom_linear_solve",
        "f = lambda a: br.custom_linear_solve(lambda x: a * x, 6.0, lambda mv, b: b / mv(1.0), symmetric=True)\n"
        "br.grad(f)(2.0) == -1.5",
    ),
    Row(
        "jax.lax.custom_root",
        "",
        "br.custom_root",
        "f = lambda a: br.custom_root(lambda x: x - a**2, 0.0, lambda f, x: x - f(x))\nbr.grad(f)(3.0) == 6",
    ),
    Row(
        "",
        "",
        "br.fixed_point",
        "f = lambda a: br.fixed_point(lambda x: x / 2 + a, 0.0)\nnp.isclose(br.grad(f)(1.0), 2)",
    ),
    Row(
        "jax.scipy.optimize.minimize",
        "",
        "br.scipy.optimize.minimize",
        "f = lambda a: br.scipy.optimize.minimize(lambda x: np.sum((x - a) ** 2), 0.0).x[0]\n"
        "np.isclose(br.grad(f)(3.0), 1)",
    ),
    Row(
        "",
        "",
        "br.scipy.optimize.root",
        "f = lambda a: br.scipy.optimize.root(lambda x: x**2 - a, 1.0).x[0]\nnp.isclose(br.grad(f)(4.0), 0.25)",
    ),
]

BATCHING = [
    Row("jax.vmap", "vmap", "br.vmap", "np.all(br.vmap(np.dot)(np.ones((3, 2)), np.ones((3, 2))) == 2)"),
    Row(
        "jax.vmap(in_axes=(0,None))",
        "vmap2",
        "br.vmap(f, in_axes=(0, None))",
        "np.all(br.vmap(np.dot, (0, None))(np.ones((3, 2)), np.ones(2)) == 2)",
    ),
    Row(
        "jax.numpy.vectorize",
        "",
        "br.vectorize",
        "np.all(br.vectorize(np.dot, signature='(n),(n)->()')(np.ones((3, 2)), np.ones(2)) == 2)",
    ),
]

COLLECTIVES = [
    Row(
        f"jax.lax.{name}",
        "",
        f"br.{name}",
        f"np.all(br.vmap(lambda x: {call}, axis_name='i')(np.array([1.0, 3.0])) == {value})",
    )
    for name, call, value in [
        ("psum", "br.psum(x, 'i')", "4"),
        ("pmean", "br.pmean(x, 'i')", "2"),
        ("pmax", "br.pmax(x, 'i')", "3"),
        ("pmin", "br.pmin(x, 'i')", "1"),
        ("all_gather", "br.all_gather(x, 'i')", "[1, 3]"),
        ("axis_index", "br.axis_index('i')", "[0, 1]"),
        ("axis_size", "br.axis_size('i')", "2"),
    ]
] + [
    Row(f"jax.lax.{name}", "", f"br.{name}")
    for name in "all_to_all ppermute pshuffle pswapaxes psum_scatter psend precv pbroadcast".split()
]

CONTROL = [
    Row("", "", "if", "np.all(br.vmap(lambda x: x if x > 0 else -x)(np.array([-1.0, 2.0])) == [1, 2])"),
    Row("jax.lax.cond", "cond", "br.cond", "br.grad(lambda x: br.cond(x > 0, np.square, np.negative, x))(3.0) == 6"),
    Row("jax.lax.switch", "", "br.switch", "br.switch(1, [np.sin, np.square], 3.0) == 9"),
    Row(
        "jax.lax.select",
        "",
        "br.select",
        "np.all(br.select(np.array([True, False]), np.ones(2), np.zeros(2)) == [1, 0])",
    ),
    Row(
        "jax.lax.select_n",
        "",
        "np.choose",
        "np.all(np.choose(np.array([0, 1]), [np.zeros(2), np.ones(2)]) == [0, 1])",
    ),
    Row(
        "jax.lax.scan",
        "scan",
        "br.scan",
        "br.grad(lambda w: br.scan(lambda c, x: (c * w + x, None), 0.0, np.ones(3))[0])(2.0) == 5",
    ),
    Row(
        "jax.lax.while_loop",
        "while_loop",
        "br.while_loop",
        "br.grad(lambda x: br.while_loop(lambda c: c < 10, lambda c: c * c, x))(2.0) == 32",
    ),
    Row(
        "jax.lax.fori_loop",
        "",
        "br.fori_loop",
        "br.grad(lambda x: br.fori_loop(0, 3, lambda i, c: c * x, 1.0))(2.0) == 12",
    ),
    Row("jax.lax.map", "", "br.map", "np.all(br.map(np.sum, np.ones((3, 2))) == 2)"),
    Row(
        "jax.lax.associative_scan",
        "",
        "br.associative_scan",
        "np.all(br.associative_scan(np.multiply, np.array([1.0, 2.0, 3.0])) == [1, 2, 6])",
    ),
]

CHECKPOINTS = [
    Row(
        "jax.checkpoint jax.remat",
        "remat",
        "br.checkpoint, br.remat",
        "br.grad(br.checkpoint(np.sin))(0.0) == br.grad(br.remat(np.sin))(0.0) == 1",
    ),
    Row("", "", "br.checkpoint_loop", "br.grad(lambda x: br.checkpoint_loop(lambda i, s: 2 * s, 4, x))(1.0) == 16"),
    Row(
        "jax.ad_checkpoint.checkpoint_name",
        "",
        "br.checkpoint_name",
        "f = br.checkpoint(lambda x: br.checkpoint_name(np.sin(x), 's') ** 2, policy=br.save_only_these_names('s'))\n"
        "br.grad(f)(0.0) == 0",
    ),
    *(
        Row(
            " ".join(f"jax.checkpoint_policies.{theirs}" for theirs in names.split()),
            "",
            ours,
            f"br.grad(br.checkpoint(lambda x: x @ x, policy={call}))(np.ones(1))[0] == 2",
        )
        for names, ours, call in [
            ("nothing_saveable", "br.save_nothing", "br.save_nothing"),
            ("everything_saveable", "br.save_everything", "br.save_everything"),
            ("dots_saveable checkpoint_dots", "br.save_matmuls", "br.save_matmuls"),
            ("save_only_these_names", "br.save_only_these_names", "br.save_only_these_names('s')"),
        ]
    ),
    Row(
        "jax.checkpoint_policies.dots_with_no_batch_dims_saveable "
        "jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims",
        "",
        "",
    ),
    Row("jax.checkpoint_policies.save_any_names_but_these", "", "br.save_any_names_but_these"),
    Row("jax.checkpoint_policies.save_from_both_policies", "", "br.save_from_both_policies"),
    Row(
        "jax.checkpoint_policies.offload_dot_with_no_batch_dims "
        "jax.checkpoint_policies.save_and_offload_only_these_names",
        "",
        "",
    ),
]

CHECKING = [
    Row(
        "",
        "with_debug",
        "br.debug",
        "import io\nout = io.StringIO()\nbr.debug(np.sin, out)(0.0)\n'sin' in out.getvalue()",
    ),
    Row(
        "",
        "",
        "br.debug.record",
        "y, table = br.debug.record(np.sin)(0.0)\n[r.operation for r in table] == ['sin']",
    ),
    Row(
        "jax.profiler.trace",
        "",
        "br.debug.profile",
        "y, profile = br.debug.profile(np.sin)(0.0)\nprofile.operations[0].name == 'sin'",
    ),
    Row("jax.debug.print", "", "br.debug.print", "br.grad(lambda x: br.debug.print('x = {}', x) or x * x)(3.0) == 6"),
    Row(
        "jax.debug.callback",
        "",
        "br.debug.callback",
        "seen = []\nbr.grad(lambda x: br.debug.callback(seen.append, x) or x * x)(3.0)\nseen == [3]",
    ),
    Row("jax.debug.breakpoint", "", "br.debug.breakpoint", "callable(br.debug.breakpoint)"),
    Row(
        "jax.debug_nans jax.debug_infs",
        "",
        "br.debug_nans",
        "with br.debug_nans(): y = br.grad(np.sqrt)(4.0)\ny == 0.25",
    ),
    Row(
        "jax.test_util.check_grads", "check_grads", "br.check_grads", "br.check_grads(np.sin, (0.5,), order=2) is None"
    ),
    Row(
        "jax.test_util.check_jvp",
        "",
        "br.check_grads(..., modes=('fwd',))",
        "br.check_grads(np.sin, (0.5,), modes=('fwd',)) is None",
    ),
    Row(
        "jax.test_util.check_vjp",
        "",
        "br.check_grads(..., modes=('rev',))",
        "br.check_grads(np.sin, (0.5,), modes=('rev',)) is None",
    ),
    Row("", "", "br.check_gradient", "br.check_gradient(np.sin, 0.5).passed"),
    Row("", "", "br.check_gradients", "br.check_gradients(np.multiply, (2.0, 3.0)).passed"),
    Row("", "", "br.finite_diff", "np.isclose(br.finite_diff(np.sin, 0.0), 1)"),
    Row("", "", "br.finite_diff_jacobian", "np.allclose(br.finite_diff_jacobian(np.sin, np.zeros(2)), np.eye(2))"),
    Row("jax.experimental.checkify.checkify", "", "br.checkify"),
    Row(
        "jax.check_tracer_leaks",
        "",
        "Always: `br.EscapedValueError`",
        "issubclass(br.EscapedValueError, br.BindruneError)",
    ),
]

ARRAYS = [
    Row("jax.numpy.sin", "", "np.sin", "br.grad(np.sin)(0.0) == 1"),
    Row(
        "jax.scipy.special.gammaln",
        "",
        "scipy.special.gammaln",
        "np.isclose(br.grad(scipy.special.gammaln)(1.0), -np.euler_gamma)",
    ),
    Row(
        "jax.scipy.linalg.expm",
        "",
        "scipy.linalg.expm",
        "np.isclose(br.grad(lambda t: scipy.linalg.expm(t * np.eye(2))[0, 0])(1.0), np.e)",
    ),
    Row("jax.lax.add", "", "+, np.add", "np.add(1.0, 2.0) == 3"),
    Row(
        "x.at[i].set(v)",
        "",
        "x[i] = v",
        "br.grad(lambda v: (x := np.zeros(2), x.__setitem__(0, v), np.sum(x * x))[2])(3.0) == 6",
    ),
    Row(
        "jax.new_ref",
        "",
        "Any array",
        "br.grad(lambda v: (x := np.full(2, v), np.multiply(x, 3, out=x), np.sum(x))[2])(1.0) == 6",
    ),
    Row("", "", "br.set_threads", "br.set_threads(2) is None"),
    Row("jax.device_get", "", "Nothing to do: results are arrays", "type(br.vmap(np.sin)(np.zeros(2))) is np.ndarray"),
    Row("jax.enable_x64", "", "Always", "br.grad(np.sin)(0.0).dtype == np.float64"),
    Row(
        "jax.eval_shape jax.ShapeDtypeStruct",
        "",
        "br.eval_shape br.ShapeDtype",
        "br.eval_shape(lambda x: x @ x.T, br.ShapeDtype((3, 2), float)) == br.ShapeDtype((3, 3), float)",
    ),
]

_TREES = [
    ("map", "br.tree.map(lambda x: 2 * x, {'a': 1}) == {'a': 2}"),
    ("flatten", "br.tree.flatten({'a': 1, 'b': [2]})[0] == [1, 2]"),
    ("unflatten", "br.tree.unflatten(br.tree.structure([0, 0]), [1, 2]) == [1, 2]"),
    ("leaves", "br.tree.leaves({'a': 1, 'b': [2]}) == [1, 2]"),
    ("structure", "br.tree.structure([0, 0]) == br.tree.structure([1, 2])"),
    ("reduce", "br.tree.reduce(lambda a, b: a + b, [1, (2, 3)]) == 6"),
    ("all", "br.tree.all([True, {'a': True}])"),
    ("broadcast", "br.tree.broadcast({'a': 1}, {'a': [10, 20]}) == {'a': [1, 1]}"),
    ("map_with_path", "br.tree.map_with_path(lambda path, x: 2 * x, {'a': 1}) == {'a': 2}"),
    ("leaves_with_path", "br.tree.leaves_with_path([1])[0][1] == 1"),
    ("flatten_with_path", "br.tree.flatten_with_path([1])[0][0][1] == 1"),
    (
        "transpose",
        "outer, inner = br.tree.structure([0, 0]), br.tree.structure({'a': 0})\n"
        "br.tree.transpose(outer, inner, [{'a': 1}, {'a': 2}]) == {'a': [1, 2]}",
    ),
]
TREES = [
    *(Row(f"jax.tree.{name}", "", f"br.tree.{name}", example) for name, example in _TREES),
    Row(
        "jax.tree_util.Partial",
        "",
        "functools.partial",
        "import functools\nbr.grad(functools.partial(np.multiply, 3.0))(1.0) == 3",
    ),
    Row(
        "jax.tree_util.register_pytree_node jax.tree_util.register_static",
        "",
        "br.tree.register",
        "class Pair:\n    pass\nbr.tree.register(Pair, lambda p: ((1, 2), None), lambda _, parts: Pair()) is Pair",
    ),
    Row(
        "jax.tree_util.register_dataclass",
        "",
        "Nothing to do: dataclasses are trees",
        "import dataclasses\nP = dataclasses.make_dataclass('P', ['a'])\nbr.grad(lambda p: p.a**2)(P(3.0)) == P(6)",
    ),
    Row(
        "jax.flatten_util.ravel_pytree",
        "",
        "br.tree.ravel",
        "vector, unravel = br.tree.ravel({'a': np.ones(2), 'b': 3.0})\nunravel(2 * vector)['b'] == 6",
    ),
]

_KEYS = [
    ("key", "br.random.key(0).shape == (2,)"),
    ("PRNGKey", "np.all(br.random.PRNGKey(0) == br.random.key(0))"),
    ("split", "br.random.split(br.random.key(0), 3).shape == (3, 2)"),
    ("fold_in", "np.any(br.random.fold_in(br.random.key(0), 1) != br.random.key(0))"),
    ("clone", "np.all(br.random.clone(br.random.key(0)) == br.random.key(0))"),
    ("key_data", "br.random.key_data(br.random.key(0)).dtype == np.uint32"),
    ("wrap_key_data", "np.all(br.random.wrap_key_data(np.zeros(2, np.uint32)) == br.random.key(0))"),
]

_SHAPED = "bits cauchy exponential gumbel laplace logistic maxwell normal rademacher uniform"  # arguments: (key, shape)

_SAMPLERS = [
    ("ball", "2, shape=(3,)", "(3, 2)"),
    ("bernoulli", "0.5, (3,)", "(3,)"),
    ("beta", "2.0, 3.0, (3,)", "(3,)"),
    ("binomial", "10, 0.5, (3,)", "(3,)"),
    ("categorical", "np.zeros(4), shape=(3,)", "(3,)"),
    ("chisquare", "2.0, (3,)", "(3,)"),
    ("choice", "np.arange(9), (3,)", "(3,)"),
    ("dirichlet", "np.ones(2), (3,)", "(3, 2)"),
    ("double_sided_maxwell", "0.0, 1.0, (3,)", "(3,)"),
    ("f", "2.0, 3.0, (3,)", "(3,)"),
    ("gamma", "2.0, (3,)", "(3,)"),
    ("generalized_normal", "2.0, (3,)", "(3,)"),
    ("geometric", "0.5, (3,)", "(3,)"),
    ("loggamma", "2.0, (3,)", "(3,)"),
    ("lognormal", "1.0, (3,)", "(3,)"),
    ("multinomial", "10, np.array([0.5, 0.5])", "(2,)"),
    ("multivariate_normal", "np.zeros(2), np.eye(2)", "(2,)"),
    ("orthogonal", "2", "(2, 2)"),
    ("pareto", "2.0, (3,)", "(3,)"),
    ("permutation", "np.arange(3)", "(3,)"),
    ("poisson", "2.0, (3,)", "(3,)"),
    ("randint", "(3,), 0, 9", "(3,)"),
    ("rayleigh", "1.0, (3,)", "(3,)"),
    ("t", "2.0, (3,)", "(3,)"),
    ("triangular", "0.0, 0.5, 1.0, (3,)", "(3,)"),
    ("truncated_normal", "-1.0, 1.0, (3,)", "(3,)"),
    ("wald", "1.0, (3,)", "(3,)"),
    ("weibull_min", "1.0, 2.0, (3,)", "(3,)"),
    *((name, "(3,)", "(3,)") for name in _SHAPED.split()),
]

RANDOM = [
    *(Row(f"jax.random.{name}", "", f"br.random.{name}", example) for name, example in _KEYS),
    *(
        Row(
            f"jax.random.{name}",
            "",
            f"br.random.{name}",
            f"br.random.{name}(br.random.key(0), {given}).shape == {shape}",
        )
        for name, given, shape in sorted(_SAMPLERS)
    ),
    Row(
        "jax.debug_key_reuse",
        "",
        "br.random.check_keys",
        "with br.random.check_keys(): key = br.random.key(0)\nkey.shape == (2,)",
    ),
    Row("jax.experimental.random.stateful_rng", "", ""),
]

COMPILING = [
    Row("jax.jit", "jit jit2", "br.jit", "br.jit(lambda x: x * x)(3.0) == 9"),
    Row(
        "jax.explain_cache_misses jax.log_compiles",
        "jit_stats reset_jit_stats Jit_error",
        "The methods stats() and explain()",
        "f = br.jit(np.sin)\n_ = f(1.0), f(2.0)\nf.stats().stagings == 1 and f.stats().hits == 1",
    ),
    Row(
        "jax.disable_jit",
        "",
        "br.disable_jit",
        "f = br.jit(np.sin)\nwith br.disable_jit(): _ = f(1.0)\nf.stats().stagings == 0",
    ),
    Row(
        "jax.make_jaxpr",
        "",
        "br.make_graph",
        "[n.op.name for n in br.make_graph(lambda x: np.sin(x) * 2)(1.0).nodes] == ['sin', 'multiply']",
    ),
    Row(
        "jax.pure_callback",
        "",
        "br.pure_callback",
        "f = br.jit(lambda x: br.pure_callback(np.cumsum, br.ShapeDtype((2,), float), x))\nf(np.ones(2))[1] == 2",
    ),
    Row(
        "jax.experimental.io_callback",
        "",
        "br.io_callback",
        "seen = []\nbr.jit(lambda x: br.io_callback(seen.append, None, x))(3.0)\nseen == [3]",
    ),
    Row("", "", "br.cost", "br.cost(lambda a: a @ a)(np.ones((10, 10))).flops == 2000"),
    Row("", "", "br.progress", "sum(br.progress(range(4), disable=True)) == 6"),
    Row("jax.named_scope jax.named_call", "", ""),
    Row("jax.pmap", "pmap pmap2", "br.pmap"),
    Row("jax.shard_map jax.smap", "", "br.shard_map"),
    Row("jax.make_mesh jax.set_mesh jax.sharding.Mesh", "", "br.make_mesh"),
    Row("jax.sharding.NamedSharding jax.sharding.PartitionSpec jax.lax.with_sharding_constraint", "", "br.sharding"),
    Row("jax.devices jax.local_devices jax.device_put jax.default_device", "", "br.devices"),
    Row("jax.process_index jax.process_count jax.distributed.initialize", "", "br.distributed"),
    Row(
        "jax.export.export jax.export.symbolic_shape",
        "",
        "br.export",
        "import tempfile\nfile = tempfile.mkdtemp() + '/twice.o'\n"
        "br.export(lambda x: 2 * x, 1.0, path=file).declaration == 'int twice(double x, double *out);'",
    ),
    Row("jax.export.deserialize", "", ""),
    Row("jax.experimental.sparse.BCOO", "", "br.sparse"),
]

SECTIONS = {
    "Derivatives": DERIVATIVES,
    "Rules of one's own, and solutions": RULES,
    "Batching": BATCHING,
    "Across the lanes of `br.vmap(f, axis_name=...)`": COLLECTIVES,
    "Control flow": CONTROL,
    "Checkpoints": CHECKPOINTS,
    "Debugging and checking": CHECKING,
    "Arrays": ARRAYS,
    "Trees": TREES,
    "Random numbers": RANDOM,
    "Compiling, devices and hosts": COMPILING,
}

if __name__ == "__main__":
    DOCUMENT.write_text(document())
