"""Test what compiles and keeps C++ libraries: never another's code, never a damaged one."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from shiftgym_agents.kernels import building, native
from shiftgym_agents.kernels.building import NativeUnavailableError
from shiftgym_agents.kernels.caches import cache_folder
from shiftgym_agents.training.running import pick_backend

FLAGS = "-shared -fPIC"
posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a small library, to be kept in a cache of its own."""
    monkeypatch.setenv("SHIFTGYM_CACHE", str(tmp_path / "cache"))
    try:
        building._compiler()
    except NativeUnavailableError as error:
        pytest.skip(str(error))
    path = tmp_path / "answer" / "answer.cpp"
    path.parent.mkdir()
    path.write_text('extern "C" int answer() { return 42; }')
    return path


def built(source: Path) -> Path:
    """Build the library, call it, and give its only file."""
    library = building.build(source, FLAGS)
    assert library.answer() == 42
    (path,) = cache_folder("kernels").glob("*.so")
    assert str(path) == library._name
    return path


def compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "/home/me/.cache/shiftgym/x"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/shiftgym/x"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/shiftgym/x"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/shiftgym/x"),
        ({"XDG_CACHE_HOME": "/c", "SHIFTGYM_CACHE": ""}, "/c/shiftgym/x"),
        ({"XDG_CACHE_HOME": "/c", "SHIFTGYM_CACHE": "/own"}, "/own/x"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other platforms have other folders")
def test_caches_lie_where_the_settings_say(
    settings: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "SHIFTGYM_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | settings).items():
        monkeypatch.setenv(name, value)
    assert cache_folder("x") == Path(expected)


@posix
@pytest.mark.parametrize("setting", ["", "cache"])
def test_nothing_is_kept_in_the_current_folder(
    setting: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHIFTGYM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", setting)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    path = built(source)
    assert not list(here.iterdir()) and path.is_relative_to((tmp_path / "home").resolve())
    for place in (path, *list(path.parents)[:4]):
        assert place.stat().st_mode & 0o077 == 0, place


def test_a_second_build_is_the_first(source: Path) -> None:
    path = built(source)
    before = path.stat().st_mtime_ns
    assert built(source).stat().st_mtime_ns == before
    source.write_text(source.read_text() + "\n")
    assert building.build(source, FLAGS)._name != str(path)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda old: b"",
    "cut": lambda old: old[: len(old) // 2],
    "zeros": lambda old: bytes(len(old)),
    "one bit": lambda old: old[:5000] + bytes([old[5000] ^ 1]) + old[5001:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_library_is_built_anew(damage: str, source: Path) -> None:
    path = built(source)
    old = path.read_bytes()
    path.unlink()  # the first one stays loaded
    path.write_bytes(DAMAGES[damage](old))
    path.chmod(0o700)
    assert built(source).read_bytes() == old


def test_library_for_another_machine_is_built_anew(source: Path) -> None:
    path = built(source)
    foreign = b"\x7fELF of another kind"
    path.unlink()
    stem = path.stem.rpartition("-")[0]
    other = path.with_name(f"{stem}-{hashlib.sha256(foreign).hexdigest()}.so")
    other.write_bytes(foreign)
    other.chmod(0o700)
    assert built(source) == path and not other.exists()


@posix
@pytest.mark.parametrize("how", ["others can write it", "link", "another user's"])
def test_library_that_may_be_anothers_is_not_loaded(
    how: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = built(source)
    before = path.stat().st_ino
    if how == "link":
        path.replace(tmp_path / "elsewhere.so")
        path.symlink_to(tmp_path / "elsewhere.so")
    elif how == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        os.chown(path, 65534, -1)
    else:
        path.chmod(0o720)
    assert built(source).lstat().st_ino != before


@posix
@pytest.mark.parametrize(
    ("mode", "says"), [(0o770, "chmod go-w"), (0o707, "chmod go-w"), (0o700, "belongs to user")]
)
def test_folder_that_may_be_anothers_is_refused(
    mode: int, says: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = built(source)
    path.parent.chmod(mode)
    if mode == 0o700:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(NativeUnavailableError, match=f"{says}.*\n?.*SHIFTGYM_CACHE"):
        building.build(source, FLAGS)


@posix
def test_folder_that_anyone_can_exchange_is_refused(source: Path, tmp_path: Path) -> None:
    built(source)
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(NativeUnavailableError, match="exchanged"):
        building.build(source, FLAGS)
    (tmp_path / "cache").chmod(0o1777)  # sticky, as /tmp
    assert built(source)


def test_where_nothing_can_be_kept_training_is_eager_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SHIFTGYM_CACHE", str(tmp_path / "file" / "cache"))
    native.load.cache_clear()
    try:
        with pytest.warns(UserWarning, match="file.*SHIFTGYM_CACHE"):
            assert pick_backend("auto", torch.device("cpu")) == "eager"
        with pytest.raises(NativeUnavailableError, match="SHIFTGYM_CACHE"):
            pick_backend("captured", torch.device("cpu"))
    finally:
        native.load.cache_clear()


@posix
@pytest.mark.parametrize(
    ("script", "says"), [("exit 0", "wrote nothing"), ("echo no such flag >&2; exit 1", "no such")]
)
def test_compiler_that_gives_no_library_is_named(
    script: str, says: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", script))
    with pytest.raises(NativeUnavailableError, match=says):
        building.build(source, FLAGS)
    assert not [path for path in cache_folder("kernels").iterdir() if path.name != ".lock"]


KILLED = """
import sys; from pathlib import Path; from shiftgym_agents.kernels import building
building.build(Path(sys.argv[1]), "-shared")
"""


@posix
def test_what_a_killed_compile_left_is_removed_by_the_next(source: Path, tmp_path: Path) -> None:
    slow = compiler(tmp_path / "cxx", f"echo $$ > {tmp_path}/pid; exec sleep 100")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(source)], env=os.environ | {"CXX": slow}
    )
    while process.poll() is None and not (tmp_path / "pid").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    while not (tmp_path / "pid").read_text().strip():
        time.sleep(0.01)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert list(cache_folder("kernels").glob(".new-*"))
    assert built(source)
    assert not list(cache_folder("kernels").glob(".new-*"))


@posix
def test_several_at_once_compile_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = building._compiler()
    script = f'echo x >> {tmp_path}/count; sleep 0.2; exec "{real}" "$@"'
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", script))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: building.build(source, FLAGS).answer(), range(4)))
    assert found == [42] * 4 and (tmp_path / "count").read_text() == "x\n"
