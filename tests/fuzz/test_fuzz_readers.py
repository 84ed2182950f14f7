"""A short run of the fuzzer, and whether it finds what it is for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and processor time are Linux's")


def fuzz(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "tests.fuzz.fuzz_readers", "--out", str(out), *arguments)
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_every_reader_returns_a_value_or_raises_our_error(tmp_path: Path) -> None:
    ended = fuzz(tmp_path / "found", "--batches", "23", "--cases", "60", "--seed", "suite", "--seconds", "200")
    assert ended.returncode == 0, ended.stdout
    cases = {line.split()[0]: int(line.split()[1]) for line in ended.stdout.splitlines() if " cases, of which" in line}
    assert set(cases.values()) == {60}
    assert "1380 cases in " in ended.stdout
    assert ", 0 findings" in ended.stdout
    assert not (tmp_path / "found").exists()


def test_a_reader_that_hangs_crashes_fills_the_memory_or_raises_is_found(tmp_path: Path) -> None:
    ended = fuzz(tmp_path / "found", "--only", "self-test", "--batches", "5", "--cases", "2", "--cpu-seconds", "0.3")
    assert ended.returncode == 1
    found = sorted(line.partition(" times: ")[2] for line in ended.stdout.splitlines() if " times: " in line)
    found = [re.sub(r"b'.*", "b'…'", line) for line in found]
    assert found[:4] == [
        "self-test-crash: ended by SIGABRT",
        "self-test-hang: took more than 0.3 s of processor time",
        "self-test-memory: MemoryError at ?: ",
        "self-test-raise: LookupError at ?: b'…'",
    ]
    assert found[-1] == "self-test-type: returned PosixPath"
    kept = {path.name.partition("__")[0] for path in (tmp_path / "found").iterdir()}
    assert kept == {f"self_test_{name}" for name in ("crash", "hang", "memory", "raise", "type")}
