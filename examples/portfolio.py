"""A portfolio by Newton's method: pandas at the edges, a dataclass for the parameters, NumPy in between.

Daily returns of eight assets come as a DataFrame; the weights go out as a Series.  The expected utility of an
investor is maximised by Newton-CG, which needs products of the Hessian with a vector: the derivative (`br.jvp`) of
the gradient (`br.grad`) in that direction, at a few times the cost of the objective.  No Hessian is ever formed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.optimize

import bindrune as br

AVERSION = 6.0
TRADING_DAYS = 252


@dataclass
class Allocation:
    """What is chosen: a score for each asset, and how much is invested at all, on a logistic scale."""

    scores: np.ndarray
    invested: float

    @classmethod
    def from_vector(cls, vector):
        """The allocation whose numbers these are."""
        return cls(vector[:-1], vector[-1])

    def to_vector(self):
        """All numbers in a row."""
        return np.append(self.scores, self.invested)

    def weights(self):
        """The share of each asset; what is missing to one stays in cash."""
        shares = np.exp(self.scores - np.max(self.scores))
        return shares / np.sum(shares) / (1 + np.exp(-self.invested))


def simulated_prices(days=1500, seed=7):
    """Prices that share a market factor; each asset has its own drift and risk."""
    rng = np.random.default_rng(seed)
    names = ["Bonds", "Copper", "Energy", "Gold", "Health", "Retail", "Tech", "Utilities"]
    exposure = np.array([0.05, 0.8, 1.0, -0.1, 0.7, 0.9, 1.4, 0.5])
    risk = np.array([0.003, 0.011, 0.010, 0.008, 0.007, 0.009, 0.011, 0.006])
    drift = np.array([0.03, 0.05, 0.06, 0.04, 0.09, 0.07, 0.12, 0.06]) / TRADING_DAYS
    returns = drift + rng.normal(0, 0.007, (days, 1)) * exposure + rng.normal(size=(days, 8)) * risk
    dates = pd.bdate_range("2019-01-01", periods=days, name="date")
    return pd.DataFrame(100 * np.cumprod(1 + returns, axis=0), index=dates, columns=names)


def loss(allocation, returns):
    """The negative certainty-equivalent yearly growth for constant relative risk aversion, slightly regularised."""
    growth = 1 + returns @ allocation.weights()
    utility = np.mean(growth ** (1 - AVERSION))
    return TRADING_DAYS * np.log(utility) / (AVERSION - 1) + 1e-4 * np.sum(allocation.scores**2)


def optimise(returns):
    """The best allocation, by Newton-CG."""
    gradient = br.grad(loss)

    def product(vector, direction, data):
        """The Hessian at `vector` times `direction`."""
        point, step = Allocation.from_vector(vector), Allocation.from_vector(direction)
        _, change = br.jvp(lambda p: gradient(p, data), (point,), (step,))
        return change.to_vector()

    return scipy.optimize.minimize(
        lambda v, data: loss(Allocation.from_vector(v), data),
        Allocation(np.zeros(returns.shape[1]), 0.0).to_vector(),
        args=(returns,),
        jac=lambda v, data: gradient(Allocation.from_vector(v), data).to_vector(),
        hessp=product,
        method="Newton-CG",
        options={"xtol": 1e-10},
    )


def main():
    """Optimise and report.  Returns the weights, the growth of best and equal weights, and SciPy's result."""
    prices = simulated_prices()
    returns = prices.pct_change().dropna()
    data = returns.to_numpy()

    result = optimise(data)
    best = Allocation.from_vector(result.x)
    weights = pd.Series(best.weights(), index=returns.columns, name="weight").sort_values(ascending=False)
    equal = Allocation(np.zeros(data.shape[1]), 40.0)
    growth = pd.Series({"best": -loss(best, data), "equal weights": -loss(equal, data)}, name="certainty equivalent")

    print(f"{len(returns)} days to {returns.index[-1]:%d %B %Y}, relative risk aversion {AVERSION:g}\n")
    print(weights.to_string(float_format="{:.3f}".format), f"\ncash      {1 - weights.sum():.3f}\n")
    print(growth.to_string(float_format="{:.4f}".format))
    size = np.linalg.norm(result.jac)
    print(f"\nNewton-CG: {result.nit} iterations, {result.nhev} Hessian products, gradient {size:.1e}")
    return weights, growth, result


if __name__ == "__main__":
    main()
