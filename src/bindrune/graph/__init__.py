"""The program as data: graphs, their text, their checks, their execution and their simplification."""
