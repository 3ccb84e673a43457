"""SciPy's names, written with operations."""
