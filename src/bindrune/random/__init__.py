"""Random numbers from explicit keys: the same key always draws the same numbers.

The names, the arguments and the streams are those of `jax.random` with its default generator (Threefry-2x32), of the
same dtype; dtypes are NumPy's, float64 unless given.

>>> import bindrune as br
>>> key, subkey = br.random.split(br.random.key(0))
>>> br.random.normal(subkey, (3,))
array([-1.4008841,  1.432145 ,  0.6248107])

A key is a plain array of two words.  Under `br.vmap` each lane has its own key, and draws what that key draws alone;
a key that is the same for all lanes draws the same numbers in each.

>>> keys = br.random.split(br.random.key(0), 4)
>>> br.vmap(br.random.normal)(keys) == [br.random.normal(k) for k in keys]
array([ True,  True,  True,  True])
"""

from .continuous import (
    cauchy,
    double_sided_maxwell,
    exponential,
    gumbel,
    laplace,
    logistic,
    lognormal,
    maxwell,
    normal,
    pareto,
    rayleigh,
    triangular,
    truncated_normal,
    uniform,
    wald,
    weibull_min,
)
from .discrete import (
    bernoulli,
    binomial,
    bits,
    categorical,
    choice,
    geometric,
    multinomial,
    permutation,
    poisson,
    rademacher,
    randint,
)
from .gammas import ball, beta, chisquare, dirichlet, f, gamma, generalized_normal, loggamma, t
from .keys import PRNGKey, check_keys, clone, fold_in, key, key_data, split, wrap_key_data
from .lifted import replace as _replace
from .matrices import multivariate_normal, orthogonal

__all__ = [
    "PRNGKey",
    "ball",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "check_keys",
    "chisquare",
    "choice",
    "clone",
    "dirichlet",
    "double_sided_maxwell",
    "exponential",
    "f",
    "fold_in",
    "gamma",
    "generalized_normal",
    "geometric",
    "gumbel",
    "key",
    "key_data",
    "laplace",
    "loggamma",
    "logistic",
    "lognormal",
    "maxwell",
    "multinomial",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "poisson",
    "rademacher",
    "randint",
    "rayleigh",
    "split",
    "t",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
    "wrap_key_data",
]

_replace(globals()[_name] for _name in __all__ if _name != "check_keys")
