"""A pendulum measured by a program in C: how long it is and how much it is slowed down, from readings of its angle.

The simulation is a loop in Python, and its derivative is `br.value_and_grad`.  `br.export` compiles both for C, and
pendulum.c fits the two numbers with them: it is built with the system's compiler, and runs without Python.  Prints
what the C program has found.
"""

import os
import shlex
import subprocess
from pathlib import Path

import numpy as np

import bindrune as br

SOURCE = Path(__file__).resolve().with_suffix(".c")
BUILD = SOURCE.parent.parent / "build"
GRAVITY = 9.81
STEP = 0.01
READINGS = 60
BETWEEN = 5  # steps from one reading to the next


def swing(start, length, friction):
    """The angle of a pendulum that is let go, at the times of the readings."""
    angle, speed = start, 0.0
    found = np.zeros(READINGS)
    for i in range(READINGS):
        for _ in range(BETWEEN):
            speed -= STEP * (GRAVITY / length * np.sin(angle) + friction * speed)
            angle += STEP * speed
        found[i] = angle
    return found


def misfit(pendulum, start, readings):
    """How badly a length and a friction explain the readings."""
    length, friction = pendulum
    return np.mean((swing(start, length, friction) - readings) ** 2)


def main():
    """Build the C program, and give what it says: the length and the friction."""
    readings = br.ShapeDtype((READINGS,), np.float64)
    simulation = br.export(swing, 1.0, 1.0, 0.1, path=BUILD / "swing.o")
    gradient = br.export(br.value_and_grad(misfit), np.ones(2), 1.0, readings, path=BUILD / "misfit.o", name="misfit")
    print(simulation.declaration, gradient.declaration, sep="\n")
    program = BUILD / "pendulum"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    objects = [str(simulation.path), str(gradient.path)]
    subprocess.run([*compiler, f"-I{BUILD}", "-o", program, SOURCE, *objects, "-lm"], check=True)
    said = subprocess.run([program, "0.8", "0.3"], capture_output=True, text=True, check=True).stdout
    print(said, end="")
    return [float(line.split()[-1]) for line in said.splitlines()]


if __name__ == "__main__":
    main()
