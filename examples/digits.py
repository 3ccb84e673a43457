"""Handwritten digits: two classifiers in plain NumPy, each trained by SciPy's L-BFGS and by stochastic descent.

The models and the loss know nothing of derivatives; `br.value_and_grad` supplies them, for dictionaries of
parameters as for one flat vector.  `br.vmap(br.grad(...))` then asks which single images pull hardest at the trained
network.  Prints a table and writes build/digits.png.
"""

from pathlib import Path
from time import perf_counter

import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy.optimize
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import bindrune as br

mpl.use("Agg")
import matplotlib.pyplot as plt

PLOT = Path(__file__).resolve().parent.parent / "build" / "digits.png"
HIDDEN = 48
DECAY = 1e-4

# ------------------------------------------------------------------------------------------------------- the models


def logistic(p, x):
    """Scores of the ten classes, linear in the pixels."""
    return x @ p["w"] + p["b"]


def network(p, x):
    """Scores of the ten classes, by one hidden layer."""
    return np.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]


def cross_entropy(p, model, x, labels):
    """How surprised a model is by the labels, on average."""
    scores = model(p, x)
    top = np.max(scores, axis=-1, keepdims=True)
    log_sums = np.log(np.sum(np.exp(scores - top), axis=-1, keepdims=True)) + top
    return -np.mean(np.take_along_axis(scores - log_sums, labels[..., None], axis=-1))


def loss(p, model, x, labels):
    """What is minimised: the cross entropy, and a little weight decay."""
    return cross_entropy(p, model, x, labels) + DECAY * sum(np.sum(w * w) for w in p.values())


def accuracy(p, model, x, labels):
    """The share of images that get their own label."""
    return float(np.mean(np.argmax(model(p, x), axis=-1) == labels))


def start(model, rng):
    """Parameters before training."""
    if model is logistic:
        return {"w": np.zeros((64, 10)), "b": np.zeros(10)}
    return {
        "w1": rng.normal(size=(64, HIDDEN)) / 8,
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(size=(HIDDEN, 10)) / np.sqrt(HIDDEN),
        "b2": np.zeros(10),
    }


# ----------------------------------------------------------------------------------------------------- the training


def by_lbfgs(p, model, x, labels, passes=120):
    """Train on all images at once.  Returns the parameters and the loss after each pass over the data."""
    names, shapes = list(p), [v.shape for v in p.values()]
    cuts = np.cumsum([v.size for v in p.values()])[:-1]

    def unpack(theta):
        return {n: part.reshape(s) for n, part, s in zip(names, np.split(theta, cuts), shapes, strict=True)}

    losses = []

    def objective(theta):
        value, gradient = br.value_and_grad(lambda t: loss(unpack(t), model, x, labels))(theta)
        losses.append(min([*losses[-1:], float(value)]))
        return value, gradient

    flat = np.concatenate([v.ravel() for v in p.values()])
    found = scipy.optimize.minimize(objective, flat, jac=True, method="L-BFGS-B", options={"maxfun": passes})
    return unpack(found.x), losses


def by_descent(p, model, x, labels, rng, passes=60, batch=32, rate=0.1, momentum=0.9):
    """Train on small batches, with momentum.  Returns the parameters and the loss after each pass over the data."""
    value_and_grad = br.value_and_grad(loss)
    speed = {n: np.zeros_like(v) for n, v in p.items()}
    losses = []
    for done in range(passes):
        step = rate * 0.5 * (1 + np.cos(np.pi * done / passes))
        order = rng.permutation(len(x))
        seen = []
        for at in range(0, len(x) - batch + 1, batch):
            chosen = order[at : at + batch]
            value, gradient = value_and_grad(p, model, x[chosen], labels[chosen])
            speed = {n: momentum * speed[n] - step * gradient[n] for n in p}
            p = {n: p[n] + speed[n] for n in p}
            seen.append(float(value))
        losses.append(np.mean(seen))
    return p, losses


def pulls(p, model, x, labels):
    """For each image the norm of the gradient that it alone would give."""
    gradients = br.vmap(br.grad(cross_entropy), in_axes=(None, None, 0, 0))(p, model, x, labels)
    return np.sqrt(sum(np.sum(g.reshape(len(x), -1) ** 2, axis=1) for g in gradients.values()))


# --------------------------------------------------------------------------------------------------------- the plot


def draw(curves, images, labels, guesses, norms):
    """Loss curves on the left; on the right the images that pull hardest, and least, at the network."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(12, 5.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.35])

    axes = left.subplots()
    for (name, optimiser), losses in curves.items():
        colour = "C0" if name == "network" else "C1"
        style = "-" if optimiser == "L-BFGS" else "--"
        axes.semilogy(range(1, len(losses) + 1), losses, style, color=colour, label=f"{name}, {optimiser}")
    axes.set(xlabel="passes over the training images", ylabel="loss", xlim=(0, None))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    left.suptitle("Training", fontsize=10)

    order = np.argsort(norms)[::-1]
    shown = [*order[:24], *order[-8:]]
    right.suptitle("Held-out images by the norm of their own gradient: the 24 largest, the 8 smallest", fontsize=10)
    for panel, i in zip(right.subplots(4, 8).flat, shown, strict=True):
        panel.imshow(images[i], cmap="gray_r", interpolation="nearest")
        panel.set(xticks=[], yticks=[])
        wrong = guesses[i] != labels[i]
        title = f"{labels[i]}, read {guesses[i]}" if wrong else f"{labels[i]}"
        panel.set_title(title, fontsize=8, pad=3, color="C3" if wrong else "black")
        panel.set_xlabel(f"{norms[i]:.2g}", fontsize=8, labelpad=2)
        panel.spines[:].set(visible=True, color="0.7")
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=150)
    plt.close(figure)


def main():
    """Train everything.  Returns the table and the per-image gradient norms of the held-out images."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    x, x_held, labels, labels_held, _, images = train_test_split(
        digits.data / 16, digits.target, digits.images, test_size=0.25, random_state=0, stratify=digits.target
    )
    rows, curves, trained = [], {}, {}
    for model in (logistic, network):
        for optimiser in ("L-BFGS", "SGD"):
            p = start(model, rng)
            begun = perf_counter()
            p, losses = by_lbfgs(p, model, x, labels) if optimiser == "L-BFGS" else by_descent(p, model, x, labels, rng)
            seconds = perf_counter() - begun
            curves[model.__name__, optimiser], trained[model, optimiser] = losses, p
            scores = [accuracy(p, model, *data) for data in ((x, labels), (x_held, labels_held))]
            rows.append((model.__name__, optimiser, float(loss(p, model, x, labels)), *scores, seconds))
    table = pd.DataFrame(rows, columns=["model", "optimiser", "loss", "train", "held out", "seconds"])
    print(table.round({"loss": 4, "train": 4, "held out": 4, "seconds": 1}).to_string(index=False))

    p = trained[network, "SGD"]
    norms = pulls(p, network, x_held, labels_held)
    draw(curves, images, labels_held, np.argmax(network(p, x_held), axis=-1), norms)
    print(f"plot: {PLOT}")
    return table, norms


if __name__ == "__main__":
    main()
