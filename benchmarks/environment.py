"""Where a measurement was made: the machine, what runs on it, and what else it did meanwhile."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTIONS = (
    "aml-edge",
    "torch",
    "timm",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "ai-edge-litert",
    "tensorflow",
    "coremltools",
)
TELLING_INSTRUCTIONS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "asimdhp", "i8mm", "bf16", "sve"),
)
"""Instruction sets that decide how fast a network runs, as /proc/cpuinfo names them (x86, then Arm)."""
VNNI = ("avx_vnni", "avx512_vnni")
CPU_INFO = Path("/proc/cpuinfo")
ARM_LTD = "0x41"
ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}
"""Part numbers of Arm's own cores, which are all that Linux says of them."""
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
STAT = Path("/proc/stat")
BUSY, IDLE, STEAL = (0, 1, 2, 5, 6), (3, 4), 7
"""Columns of the first line of /proc/stat; guests' time is within user's."""


@dataclass(frozen=True)
class Environment:
    """The machine and the software.

    Args:
        system: operating system, release and architecture.
        cpu: model as the system names it.
        instruction_sets: of `TELLING_INSTRUCTIONS`; empty where the system does not say.
        vnni: whether an x86 processor multiplies 8-bit integers into 32-bit sums, which without it go through 16 bits
            that saturate; None for other processors, and where the system does not say.
        cores: that this process may use.
        cpu_quota: cores' worth of time that a container allows; None where there is no limit.
        governor: of the clock frequency; None where the system does not say, as in most virtual machines.
        memory_bytes: of the machine.
        accelerators: names of the CUDA devices.
        python: version.
        versions: installed distribution → version.
    """

    system: str
    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int
    cpu_quota: float | None
    governor: str | None
    memory_bytes: int | None
    accelerators: tuple[str, ...]
    python: str
    versions: Mapping[str, str]
    vnni: bool | None = None


@dataclass(frozen=True)
class MachineLoad:
    """What the machine did while it was measured on.

    Args:
        started: local time, ISO 8601 with its offset.
        seconds: how long it was watched.
        load_average: over the minute before; None where the system does not say.
        steal: share of the processors' time that the hypervisor gave to others; None where the system does not say.
        other_work: share that other processes of this machine took; None likewise.
    """

    started: str
    seconds: float
    load_average: float | None
    steal: float | None
    other_work: float | None


def describe_environment(cores: int, accelerators: Sequence[str] = ()) -> Environment:
    """Returns what is known of this machine; `cores` are those that this process may use."""
    return Environment(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu_model(),
        instruction_sets=_instruction_sets(),
        cores=cores,
        cpu_quota=_quota(_text(QUOTA)),
        governor=_text(GOVERNOR) or None,
        memory_bytes=_memory_bytes(),
        accelerators=tuple(accelerators),
        python=platform.python_version(),
        versions=_versions(DISTRIBUTIONS),
        vnni=_vnni(),
    )


class LoadWatch:
    """Watches the machine from its making until `finish`."""

    def __init__(self) -> None:
        self._started = datetime.now().astimezone().isoformat(timespec="seconds")
        self._load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._ticks = _processor_ticks(_text(STAT))
        self._began = time.monotonic()

    def finish(self, own_cpu_seconds: float) -> MachineLoad:
        """Returns what was seen; `own_cpu_seconds` is the processor time that the measurement itself took."""
        ticks = [after - before for after, before in zip(_processor_ticks(_text(STAT)), self._ticks, strict=True)]
        steal = other_work = None
        if sum(ticks) > 0:
            own_ticks = own_cpu_seconds * os.sysconf("SC_CLK_TCK")
            steal = ticks[STEAL] / sum(ticks)
            other_work = max(0.0, sum(ticks[column] for column in BUSY) - own_ticks) / sum(ticks)
        return MachineLoad(self._started, time.monotonic() - self._began, self._load_average, steal, other_work)


def _processor_ticks(stat: str) -> tuple[int, ...]:
    """Returns ticks of all processors by what they did, eight columns; empty where there is no /proc/stat."""
    columns = stat.splitlines()[0].split()[1:] if stat else []
    return tuple(int(column) for column in columns[: STEAL + 1])


def _cpu_model() -> str:
    fields = _cpu_fields(_text(CPU_INFO))
    named = fields.get("model name") or fields.get("Model") or _arm_cores(_text(CPU_INFO))
    if named:
        return named
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def _arm_cores(cpu_info: str) -> str:
    """Returns how many cores of which kind there are, e.g. ``"4 × Cortex-A55, 4 × Cortex-A76"``."""
    kinds: dict[str, int] = {}
    for core in cpu_info.split("\n\n"):
        fields = _cpu_fields(core)
        implementer, part = fields.get("CPU implementer"), fields.get("CPU part")
        if implementer and part:
            known = ARM_CORES.get(part) if implementer == ARM_LTD else None
            kind = known or f"implementer {implementer} part {part}"
            kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(f"{count} × {kind}" for kind, count in kinds.items())


def _instruction_sets() -> tuple[str, ...]:
    fields = _cpu_fields(_text(CPU_INFO))
    known = (fields.get("flags") or fields.get("Features") or "").split()
    return tuple(one for one in TELLING_INSTRUCTIONS if one in known)


def _vnni() -> bool | None:
    flags = _cpu_fields(_text(CPU_INFO)).get("flags")  # Arm's are called features
    return None if flags is None else any(one in flags.split() for one in VNNI)


def _cpu_fields(cpu_info: str) -> dict[str, str]:
    """Returns each name of /proc/cpuinfo → its value where it stands first."""
    fields: dict[str, str] = {}
    for line in cpu_info.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _quota(cpu_max: str) -> float | None:
    """Returns the cores of a cgroup's ``cpu.max``: quota and period in microseconds, or ``max`` for no limit."""
    quota, _, period = cpu_max.partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _memory_bytes() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _versions(distributions: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str:
    """Returns a file's text without the blanks around it; empty where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
