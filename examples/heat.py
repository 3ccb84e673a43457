"""Where the heat was: the initial temperature of a rod, recovered from readings that began much later.

The simulation is an explicit finite-difference loop that updates the rod in place and writes its readings into an
array, as one would write it anyway; the gradient of the misfit with respect to the start is one `br.value_and_grad`.
Diffusion forgets, so the readings alone do not determine the start: a penalty on roughness, and the knowledge that
nothing was colder than the ends, choose among the starts that explain them.  Prints the errors and writes
build/heat.png.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import scipy.optimize

import bindrune as br

mpl.use("Agg")
import matplotlib.pyplot as plt

PLOT = Path(__file__).resolve().parent.parent / "build" / "heat.png"
POINTS = 61
COURANT = 0.4  # diffusivity * time step / spacing**2; above 0.5 the scheme is unstable
SENSORS = slice(2, -2, 4)
TIMES = range(40, 121, 5)
NOISE = 0.005
BEND = 0.02  # the second differences that a plausible start has


def simulate(start):
    """What the sensors read: one row for each time."""
    u = start.copy()
    u[0] = u[-1] = 0.0
    readings = np.zeros((len(TIMES), len(u[SENSORS])))
    for step in range(1, TIMES[-1] + 1):
        u[1:-1] += COURANT * (u[2:] - 2 * u[1:-1] + u[:-2])
        if step in TIMES:
            readings[TIMES.index(step)] = u[SENSORS]
    return readings


def objective(start, measured):
    """How badly a start explains the readings, and how rough it is."""
    misfit = (simulate(start) - measured) / NOISE
    bends = np.diff(start, 2) / BEND
    return np.sum(misfit**2) + np.sum(bends**2)


def draw(place, truth, measured, found):
    """The rod at the start, as it was and as recovered, and what was there to recover it from."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(place, truth, color="0.6", linewidth=6, alpha=0.6, label="start, true")
    axes.plot(place, found, color="C3", label="start, recovered")
    for row, name in ((0, "first"), (-1, "last")):
        label = f"{name} reading, step {TIMES[row]}"
        axes.plot(place[SENSORS], measured[row], "o:", color="C0", alpha=1 + 0.6 * row, markersize=4, label=label)
    axes.set(xlabel="position along the rod", ylabel="temperature", xlim=(0, 1), ylim=(-0.03, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=150)
    plt.close(figure)


def main():
    """Simulate, measure, recover.  Returns the relative errors of the recovered start and of the first reading."""
    place = np.linspace(0, 1, POINTS)
    truth = np.exp(-(((place - 0.3) / 0.08) ** 2)) + 0.6 * np.exp(-(((place - 0.68) / 0.1) ** 2))
    exact = simulate(truth)
    measured = exact + NOISE * np.random.default_rng(0).normal(size=exact.shape)

    result = scipy.optimize.minimize(
        br.value_and_grad(objective),
        np.zeros(POINTS),
        args=(measured,),
        jac=True,
        bounds=[(0, None)] * POINTS,
        method="L-BFGS-B",
    )
    found = result.x
    guesses = {"recovered": found, "the first reading": np.interp(place, place[SENSORS], measured[0])}
    errors = {name: float(np.linalg.norm(u - truth) / np.linalg.norm(truth)) for name, u in guesses.items()}
    for name, error in errors.items():
        print(f"relative error of the start, {name}: {error:.3f}")
    misfit = np.sqrt(np.mean((simulate(found) - measured) ** 2)) / NOISE
    print(f"{result.nit} iterations of L-BFGS; misfit {misfit:.2f} times the noise")
    draw(place, truth, measured, found)
    print(f"plot: {PLOT}")
    return errors


if __name__ == "__main__":
    main()
