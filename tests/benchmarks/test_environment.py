"""What is read off a machine, on files of machines that this one is not."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from aml_edge.benchmarks import environment
from aml_edge.benchmarks.environment import LoadWatch, describe_environment

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse4_2 avx avx2 avx512f avx512_bf16 amx_bf16 amx_tile
bugs\t\t: spectre_v1

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: another one
flags\t\t: fpu avx_vnni
"""
ARM = "\n".join(
    f"processor\t: {core}\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n"
    for core, (implementer, part) in enumerate(
        [("0x41", "0xd05")] * 4 + [("0x41", "0xd0b")] * 2 + [("0x51", "0x804"), ("0x41", "0xfff")]
    )
)
RASPBERRY = ARM + "\nHardware\t: BCM2712\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
STAT_BEFORE = "cpu  1000 10 200 5000 40 5 15 100 70 3\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 12\n"
# 800 ticks later: user 300, nice 20, system 80, idle 240, waiting 60, interrupts 30 and 10, stolen 60; guests' 500 are
# within user's
STAT_AFTER = "cpu  1300 30 280 5240 100 35 25 160 570 3\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 12\n"

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Returns a function that sets what the files of the system say; one that is not named is not there."""
    for name in ("CPU_INFO", "GOVERNOR", "QUOTA", "STAT"):
        monkeypatch.setattr(environment, name, tmp_path / name)

    def say(**contents: str) -> None:
        for name, text in contents.items():
            (tmp_path / name).write_text(text)

    return say


def test_an_x86_machine_says_model_and_instruction_sets(machine: Machine) -> None:
    machine(CPU_INFO=X86, GOVERNOR="powersave\n", QUOTA="250000 100000\n")
    found = describe_environment(2, ("NVIDIA H100",))
    assert found.cpu == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert found.instruction_sets == ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    assert (found.cores, found.cpu_quota, found.governor) == (2, 2.5, "powersave")
    assert found.accelerators == ("NVIDIA H100",)


def test_an_arm_machine_says_its_kinds_of_cores(machine: Machine) -> None:
    machine(CPU_INFO=ARM)
    found = describe_environment(8)
    assert found.cpu == (
        "4 × Cortex-A55, 2 × Cortex-A76, 1 × implementer 0x51 part 0x804, 1 × implementer 0x41 part 0xfff"
    )
    assert found.instruction_sets == ("asimddp", "asimdhp")


@pytest.mark.parametrize(
    ("cpu_info", "vnni"),
    [
        (X86, False),  # of the first core, as all else
        ("flags\t: avx2 avx_vnni\n", True),
        ("flags\t: avx512f avx512_vnni\n", True),
        ("flags\t: avx2 avx512_vnni_like\n", False),
        (ARM, None),
        ("", None),
    ],
)
def test_vnni_is_said_of_x86_processors(machine: Machine, cpu_info: str, vnni: bool | None) -> None:
    machine(CPU_INFO=cpu_info)
    assert describe_environment(2).vnni is vnni


def test_a_board_that_says_its_name_is_called_by_it(machine: Machine) -> None:
    machine(CPU_INFO=RASPBERRY)
    assert describe_environment(4).cpu == "Raspberry Pi 5 Model B Rev 1.0"


def test_another_maker_s_core_is_not_taken_for_one_of_arm_s(machine: Machine) -> None:
    machine(CPU_INFO="CPU implementer\t: 0x61\nCPU part\t: 0xd05\n")
    assert describe_environment(1).cpu == "1 × implementer 0x61 part 0xd05"


@pytest.mark.parametrize("text", ["", "\n", "hello\n", "model name\t:\nflags\n"])
def test_a_system_that_says_nothing_of_its_processor_has_one_all_the_same(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    machine(CPU_INFO=text)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.processor", lambda: "")
    found = describe_environment(1)
    assert found.cpu == platform.machine()
    assert found.instruction_sets == ()


def test_what_is_not_said_is_none(machine: Machine) -> None:
    found = describe_environment(1)
    assert (found.cpu_quota, found.governor, found.accelerators) == (None, None, ())


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", None), ("50000 100000", 0.5), ("400000 100000", 4), ("", None), ("100000", None), ("a b", None)],
)
def test_a_quota_is_in_cores(machine: Machine, text: str, cores: float | None) -> None:
    machine(QUOTA=text)
    assert describe_environment(1).cpu_quota == cores


def test_memory_is_what_the_system_counts() -> None:
    lines = Path("/proc/meminfo")
    if not lines.exists():
        pytest.skip("no /proc/meminfo")
    kib = int(next(line for line in lines.read_text().splitlines() if line.startswith("MemTotal:")).split()[1])
    assert describe_environment(1).memory_bytes == kib * 1024


def test_versions_are_those_that_are_installed() -> None:
    found = describe_environment(1)
    assert found.python == platform.python_version()
    assert found.system == f"{platform.system()} {platform.release()} {platform.machine()}"
    assert {name: version(name) for name in ("aml-edge", "torch", "onnxruntime")}.items() <= found.versions.items()
    assert "onnxruntime-gpu" not in found.versions or version("onnxruntime-gpu")


def test_others_work_and_the_hypervisor_s_share_are_told_apart(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 9.0, 9.0))
    machine(STAT=STAT_BEFORE)
    watch = LoadWatch()
    machine(STAT=STAT_AFTER)
    load = watch.finish(own_cpu_seconds=2.0)
    assert load.steal == pytest.approx(60 / 800)
    assert load.other_work == pytest.approx((300 + 20 + 80 + 30 + 10 - 200) / 800)
    assert load.load_average == 1.5
    assert load.seconds >= 0


def test_rounding_makes_no_negative_work(machine: Machine) -> None:
    machine(STAT=STAT_BEFORE)
    watch = LoadWatch()
    machine(STAT=STAT_AFTER)
    assert watch.finish(own_cpu_seconds=1e6).other_work == 0


@pytest.mark.parametrize("stat", [None, STAT_BEFORE])
def test_nothing_is_said_where_nothing_was_counted(machine: Machine, stat: str | None) -> None:
    if stat is not None:
        machine(STAT=stat)
    load = LoadWatch().finish(own_cpu_seconds=1.0)
    assert (load.steal, load.other_work) == (None, None)


def test_the_start_is_a_local_time_with_its_offset(machine: Machine) -> None:
    from datetime import datetime

    started = datetime.fromisoformat(LoadWatch().finish(0.0).started)
    assert started.utcoffset() is not None
    assert abs((datetime.now().astimezone() - started).total_seconds()) < 60
