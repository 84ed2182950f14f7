"""Memory of processes that hold a known amount."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aml_edge.benchmarks import memory

MIB = 1 << 20
HELD_MIB = 200
TOLERANCE_MIB = 30
"""What Python takes beside the block that was asked for, and what the allocator keeps of it."""
PROGRAM = f"""
import json
from aml_edge.benchmarks.memory import forget_peak, peak_resident_bytes, resident_bytes

def numbers():
    return [resident_bytes(), peak_resident_bytes()]

def hold():
    return bytearray(b"x") * ({HELD_MIB} << 20)  # every page is written

before = numbers()
held = hold()
holding = numbers()
del held
after = numbers()
could = forget_peak()
forgotten = numbers()
print(json.dumps([before, holding, after, could, forgotten]))
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")


@needs_proc
def test_a_process_that_held_much_says_how_much() -> None:
    printed = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    before, holding, after, could, forgotten = json.loads(printed)
    tolerance = TOLERANCE_MIB * MIB
    assert holding[0] - before[0] == pytest.approx(HELD_MIB * MIB, abs=tolerance)
    assert holding[1] - before[0] == pytest.approx(HELD_MIB * MIB, abs=tolerance)
    assert after[0] == pytest.approx(before[0], abs=tolerance)
    assert after[1] == pytest.approx(holding[1], abs=tolerance)
    if could:  # some containers forbid it
        assert forgotten[1] == pytest.approx(after[0], abs=tolerance)


@needs_proc
def test_a_new_process_does_not_inherit_the_peak() -> None:
    program = f"""
import subprocess, sys
held = bytearray(b"x") * ({HELD_MIB} << 20)
ask = "from aml_edge.benchmarks.memory import peak_resident_bytes; print(peak_resident_bytes())"
print(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout)
"""
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert 0 < int(printed) < HELD_MIB * MIB


def test_fields_are_read_in_kibibytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  99999 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    monkeypatch.setattr(memory, "STATUS", status)
    assert memory.resident_bytes() == 1 * MIB
    assert memory.peak_resident_bytes() == 2 * MIB


def test_a_system_without_proc_says_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "absent")
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "absent" / "clear_refs")
    assert memory.resident_bytes() is None
    assert not memory.forget_peak()
    monkeypatch.setattr(sys, "platform", "win32")
    assert memory.peak_resident_bytes() is None


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_getrusage_counts_in_the_system_s_unit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, unit: int
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "absent")
    monkeypatch.setattr(sys, "platform", system)
    peak = memory.peak_resident_bytes()
    assert peak is not None
    assert peak == pytest.approx(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, rel=0.5)


def test_a_status_without_the_field_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tkernel thread\n")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert memory.resident_bytes() is None
