"""The house stands: floors, file sizes, docstrings, doctests, and what `import bindrune` costs."""

import ast
import doctest
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bindrune as br

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "bindrune"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = ("core", "graph", "ops", "numpy", "scipy", "lift", "transforms", "random", "compile", "backends")
NAMESPACES = ("random",)

# Modules of bindrune that are imported inside a function, with the reason for each.
LAZY: dict[tuple[str, str], str] = {
    ("scipy/linalg.py", "ops.matrices"): "imports SciPy",
    ("scipy/special.py", "ops.special"): "imports SciPy",
    ("graph/graph.py", "graph.text.to_text"): "a graph shows itself in a form that is written of graphs",
    ("graph/graph.py", "graph.pictures.to_html"): "a graph shows itself in a form that is written of graphs",
}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


each_file = pytest.mark.parametrize("path", FILES, ids=name_of)


def imports(path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Every import of a module of bindrune in a file, and the module's dotted name within the package."""
    package = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("bindrune", *package)[: len(package) + 2 - node.level] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            modules = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "bindrune":
                yield node, ".".join(parts[1:])


@each_file
def test_a_file_imports_only_from_its_own_and_lower_floors(path: Path) -> None:
    floor = path.relative_to(PACKAGE).parts[0]
    if floor not in FLOORS:
        return  # the modules and namespaces beside the floors stand above all of them
    allowed = FLOORS[: FLOORS.index(floor) + 1]
    for node, module in imports(path):
        assert module.split(".")[0] in allowed, f"{path}:{node.lineno} imports {module}"


@each_file
def test_imports_stand_at_the_top_of_a_file(path: Path) -> None:
    for node, module in imports(path):
        if (name_of(path), module) not in LAZY:
            hidden = [f for f in ast.walk(ast.parse(path.read_text())) if isinstance(f, ast.FunctionDef)]
            assert not any(f.lineno <= node.lineno <= (f.end_lineno or 0) for f in hidden), f"{path}:{node.lineno}"


def test_every_lazy_import_is_there() -> None:
    assert LAZY.keys() <= {(name_of(path), module) for path in FILES for _, module in imports(path)}


def test_every_package_is_a_floor_or_a_public_namespace() -> None:
    found = {p.relative_to(PACKAGE).parts[0] for p in FILES if p.parent != PACKAGE}
    assert found <= {*FLOORS, *NAMESPACES}


@each_file
def test_a_file_opens_with_a_docstring_and_stays_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert text.count("\n") < 600


@each_file
def test_nothing_prints(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]


@pytest.mark.parametrize("name", br.__all__)
def test_a_public_name_is_documented_and_its_example_runs(name: str) -> None:
    value = getattr(br, name)
    text = inspect.getdoc(value)
    assert text
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    examples = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    assert examples
    assert examples[0].examples, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(examples[0]).failed == 0


def test_the_example_of_the_package_runs() -> None:
    assert doctest.testmod(br).failed == 0


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_the_examples_in_a_document_run(path: Path) -> None:
    assert doctest.testfile(str(path), module_relative=False).failed == 0


def test_the_code_in_the_readme_runs() -> None:
    names: dict[str, object] = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        exec(block, names)


# ----------------------------------------------------------------------------------------------- the cost of importing

LIMIT = 0.060


def test_importing_costs_little_more_than_numpy(tmp_path: Path) -> None:
    # The least of several measurements is the one that other programs disturbed least; NumPy's own threads, which begin
    # with it, are not ours to count.  Compiled modules are kept, even where the environment says not to: compiling is
    # not importing.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    code = "from time import thread_time as now; import numpy; start = now(); import bindrune; print(now() - start)"

    def seconds() -> float:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return float(done.stdout)

    seconds()
    assert min(seconds() for _ in range(9)) < LIMIT


@pytest.mark.parametrize("heavy", ["scipy", "llvmlite", "matplotlib", "jaxlib", "ml_dtypes", "opt_einsum"])
def test_importing_does_not_import(heavy: str) -> None:
    code = f"import sys, bindrune; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
