"""Machine code on disk is found again, never trusted blindly, and never in the way."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native import cache, machine

X = np.arange(8.0)


def call(factor: float = 2.0) -> np.ndarray:
    """Stage, lower and compile a function, and call it."""
    found: np.ndarray = br.jit(lambda x: factor * np.sin(x) + 1, backend="native")(X)
    np.testing.assert_allclose(found, factor * np.sin(X) + 1, rtol=1e-14)
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, with what has to be compiled only once for each process already compiled."""
    call()
    monkeypatch.setenv("BINDRUNE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept" / "native"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that LLVM had to optimise."""
    texts: list[str] = []
    optimize = machine._optimized

    def counted(text: str, *how: Any) -> object:
        texts.append(text)
        return optimize(text, *how)

    monkeypatch.setattr(machine, "_optimized", counted)
    return texts


def entries(place: Path) -> list[Path]:
    return sorted(place.glob("*.code"))


def test_code_is_compiled_once(place: Path, compiled: list[str]) -> None:
    first, second = call(), call()
    assert first.tobytes() == second.tobytes()
    assert len(compiled) == len(entries(place)) == 1


def test_other_programs_have_entries_of_their_own(place: Path, compiled: list[str]) -> None:
    call(2.0)
    call(3.0)
    assert len(compiled) == len(entries(place)) == 2


def test_only_the_user_may_look_and_write(place: Path) -> None:
    call()
    assert place.stat().st_mode & 0o777 == 0o700
    assert entries(place)[0].stat().st_mode & 0o777 == 0o600


# -------------------------------------------------------------------------------------------------- entries gone bad


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


def _lengthen(content: bytes) -> bytes:
    return content + b"more"


def _of_another_program(content: bytes) -> bytes:
    return content[:20] + bytes([content[20] ^ 1]) + content[21:]


def _foreign(content: bytes) -> bytes:
    return b"\x7fELF" + content


BAD = [_cut, _flip, _lengthen, _of_another_program, _foreign, lambda content: b"", lambda content: b"bindrune code 1\n"]


@pytest.mark.parametrize("spoil", BAD)
def test_a_bad_entry_is_written_again(place: Path, compiled: list[str], spoil: Callable[[bytes], bytes]) -> None:
    call()
    (entry,) = entries(place)
    good = entry.read_bytes()
    entry.write_bytes(spoil(good))
    call()
    assert len(compiled) == 2
    assert entry.read_bytes() == good
    call()
    assert len(compiled) == 2


def test_what_others_may_write_is_not_executed(place: Path, compiled: list[str]) -> None:
    call()
    (entry,) = entries(place)
    entry.chmod(0o666)
    call()
    assert len(compiled) == 2
    assert entry.stat().st_mode & 0o777 == 0o600
    place.chmod(0o777)
    call()
    assert len(compiled) == 3
    call()
    assert len(compiled) == 4


def test_a_folder_in_place_of_an_entry_does_no_harm(place: Path, compiled: list[str]) -> None:
    call()
    (entry,) = entries(place)
    entry.unlink()
    entry.mkdir()
    call()
    assert len(compiled) == 2
    assert os.listdir(place) == [entry.name]


# ------------------------------------------------------------------------------------------------- where, and whether


@pytest.mark.parametrize("asked", ["off", "OFF", "0", ""])
def test_switched_off(asked: str, place: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDRUNE_CACHE", asked)
    assert cache.folder() is None
    call()
    call()
    assert len(compiled) == 2
    assert not place.exists()


def test_where_nothing_can_be_written(compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BINDRUNE_CACHE", str(tmp_path / "file"))
    call()
    call()
    assert len(compiled) == 2


def test_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDRUNE_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.folder() == str(tmp_path / ".cache" / "bindrune" / "native")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "else"))
    assert cache.folder() == str(tmp_path / "else" / "bindrune" / "native")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache.folder() == str(tmp_path / "else" / "bindrune" / "native")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() is None
    monkeypatch.undo()
    monkeypatch.delenv("BINDRUNE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.folder() == str(tmp_path / "Library" / "Caches" / "bindrune" / "native")


@pytest.mark.parametrize("number", range(4))
def test_other_circumstances_are_other_entries(
    number: int, place: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call()
    facts = list(machine._circumstances())
    facts[number] += ", another"
    monkeypatch.setattr(machine, "_circumstances", lambda: tuple(facts))
    call()
    assert len(compiled) == len(entries(place)) == 2


def test_circumstances_say_versions_and_the_cpu() -> None:
    import llvmlite
    import llvmlite.binding as llvm

    said = " ".join(machine._circumstances())
    features = llvm.get_host_cpu_features().flatten()
    for fact in (br.__version__, llvmlite.__version__, np.__version__, llvm.get_host_cpu_name(), features):
        assert fact in said
    assert sys.version in said


# -------------------------------------------------------------------------------------------------------------- size


def test_the_least_recently_used_go_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [cache.key_of([str(i)]) for i in range(6)]
    for i, key in enumerate(keys):
        cache.store(key, bytes(1000))
        os.utime(place / f"{key.hex()}.code", (i, i))
    assert cache.load(keys[0]) == bytes(1000)
    size = entries(place)[0].stat().st_size
    monkeypatch.setattr(cache, "LIMIT", 5 * size)
    cache._trim(str(place))
    assert [cache.load(key) is not None for key in keys] == [True, False, False, False, True, True]


def test_a_process_looks_after_the_size_now_and_then(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 20_000)
    for i in range(300):
        cache.store(cache.key_of([str(i)]), bytes(1000))
    assert len(entries(place)) <= 20 + cache._LOOK


def test_what_was_never_finished_is_removed_in_the_end(place: Path) -> None:
    call()
    new, old = place / "a.code.1.1.new", place / "b.code.1.1.new"
    for path in (new, old):
        path.write_bytes(b"begun")
    os.utime(old, (time.time() - 7200,) * 2)
    cache._trim(str(place))
    assert new.exists()
    assert not old.exists()
    assert entries(place)


# --------------------------------------------------------------------------------------------------- other processes

PROGRAM = """
import sys
import numpy as np
import bindrune as br
from bindrune.backends.native import machine

optimize, count = machine._optimized, 0

def counted(*arguments):
    global count
    count += 1
    return optimize(*arguments)

machine._optimized = counted

def steps(x, w):
    total = 0.0
    for i in range(len(x)):
        if x[i] > 0:
            total += np.tanh(x[i]) ** 3
        x[i] = x[i - 1] * 0.5
    return total, np.linalg.norm(x), x @ x, np.sort(x), np.exp(w) @ w

def distance(x, w):
    h, total = x[:100].copy(), 0.0
    for i in range(1, 30):
        h[i:i + 50] = np.tanh(w[i:i + 50] @ h) + h[i - 1]
        if h[i] > 0.5:
            total += h[i] * np.exp(-h[-i])
    return total + np.mean(h * h)

x = np.sin(np.arange(300000.0))
w = np.cos(np.arange(10000.0)).reshape(100, 100)
found = [*br.jit(steps, backend="native")(x, w), br.jit(lambda x: np.sum(np.exp(x)), backend="native")(x)]
found += br.jit(br.value_and_grad(distance, argnums=1), backend="native")(x, w / 100)
try:
    br.jit(lambda x, i: x[i], backend="native")(x, 300000)
except IndexError as error:
    print(count, [np.asarray(v).tobytes().hex()[:64] for v in found], error)
"""


def start(code: str, place: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"BINDRUNE_CACHE": str(place.parent), "OMP_NUM_THREADS": "2"}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How many programs a process compiled, and what it found."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    count, _, found = said.partition(" ")
    return int(count), found


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program as a file: what is staged needs its source."""
    path = tmp_path_factory.mktemp("script") / "program.py"
    path.write_text(PROGRAM)
    return f"import runpy; runpy.run_path({str(path)!r})"


def test_the_next_process_compiles_nothing(place: Path, script: str) -> None:
    # Addresses differ between processes: what the code refers to is found by its name.
    first, found = finish(start(script, place))
    second, again = finish(start(script, place))
    assert first == len(entries(place)) >= 3
    assert second == 0
    assert again == found
    assert "index 300000 is out of bounds" in found


def test_processes_that_write_at_once(place: Path, script: str) -> None:
    processes = [start(script, place) for _ in range(2)]
    both = [finish(process) for process in processes]
    assert both[0][1] == both[1][1]
    assert finish(start(script, place)) == (0, both[0][1])
    assert {path.suffix for path in place.iterdir()} == {".code"}


KILLED = """
import os, signal, sys
import numpy as np
import bindrune as br

os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
br.jit(lambda x: 7 * x, backend="native")(np.ones(3))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes there are ended in another way")
def test_a_process_killed_while_it_writes(place: Path) -> None:
    process = start(KILLED, place)
    process.communicate(timeout=300)
    assert process.returncode < 0
    assert not entries(place)
    (left,) = place.iterdir()
    call()
    assert len(entries(place)) == 1
    os.utime(left, (0, 0))
    cache._trim(str(place))
    assert not left.exists()
