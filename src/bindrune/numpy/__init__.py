"""NumPy's names, written with the operations: what stand-ins and lifted functions answer with."""
