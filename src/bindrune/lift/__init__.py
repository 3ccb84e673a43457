"""Running ordinary Python under a transformation."""
