"""Where graphs become machine code."""
