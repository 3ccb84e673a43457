"""Staging Python functions to graphs, and running the graphs: `jit` and what belongs to it."""
