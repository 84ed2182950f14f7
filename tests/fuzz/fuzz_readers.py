"""Fuzzes every reader of foreign files: run by hand, `python -m tests.fuzz.fuzz_readers --seconds 600`.

Valid files are changed, byte by byte or, where they are pickles, operation by operation. Whatever comes of it, a reader
must return a value of the types that it may return, or raise an `AmlEdgeError`, in little time and memory. Cases run in
child processes: one that hangs, crashes or fills the memory ends its child and is found nevertheless. Each
finding's files are kept. The whole run is determined by its seed, but for which cases fit into the time.

`--only self-test` shows that a reader that hangs, crashes, fills the memory or raises something else is found out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickletools
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aml_edge.errors import AmlEdgeError
from tests.fuzz.reader_targets import SELF_TEST, TARGETS, Target

MEMORY_BYTES = 512 << 20
_MEMORY_FOLDER = "/dev/shm"
"""Thousands of small files a second are too many for a disk."""
_INTERESTING = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\n", b",",
    b" ", b"..", b"/", b"\\", b'"', b"{", b"[" * 200, b"-1", b"1e999", b"NaN", b"9" * 30, b"\xed\xa0\x80",
    b"\xe2\x80\xa8", b"null", b"true",
)  # fmt: skip
_OPERATIONS = (
    *(bytes([byte]) for byte in b"(.012N]})tldaesubRoQ\x81\x85\x86\x87\x8f\x90\x91\x92\x93\x94\x97\x98"),
    b"h\x00", b"h\x01", b"j\0\0\0\0", b"q\x00", b"r\xff\xff\xff\x7f", b"\x80\x05", b"\x82\x01", b"Pa\n",
    b"K\x05", b"J\xff\xff\xff\xff", b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"I" + b"9" * 5000 + b"\n",
    b"G\x7f\xf8\0\0\0\0\0\0", b"U\x01a", b"\x96\x04\0\0\0\0\0\0\0abcd",
    b"\x95\x10\0\0\0\0\0\0\0", b"\x95" + b"\xff" * 8,
    b"\x8c\x05numpy", b"\x8c\x07ndarray", b"\x8c\x05posix", b"\x8c\x06system",
    b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.numeric\n_frombuffer\n", b"c_codecs\nencode\n",
    b"cbuiltins\nset\n", b"c__builtin__\nfrozenset\n", b"c__builtin__\nbytes\n", b"cos\nsystem\n",
    b"(S'a'\nios\nsystem\n",
)  # fmt: skip


@dataclass
class Tally:
    """What came of the cases so far, by target; findings by what they are, each with how often."""

    cases: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Batch:
    """Cases of one target, and the processor time that each may take."""

    target: Target
    seed: str
    cases: int
    cpu_seconds: float


def main() -> None:
    """Fuzzes until the time is over and prints a table; exit code 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--batches", type=int, default=sys.maxsize, help="of all targets together")
    parser.add_argument("--cases", type=int, default=200, help="of a batch, which is one child process or a few")
    parser.add_argument("--cpu-seconds", type=float, default=5.0, help="that a case may take")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", default="", help="targets whose name begins so")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"))
    arguments = parser.parse_args()
    known = SELF_TEST if arguments.only.startswith("self-test") else TARGETS
    targets = [target for target in known if target.name.startswith(arguments.only)]
    tally, started = Tally(), time.monotonic()
    gc.freeze()  # or every child copies what its collector touches
    with tempfile.TemporaryDirectory(dir=_MEMORY_FOLDER if os.path.isdir(_MEMORY_FOLDER) else None) as work:
        if known is TARGETS:
            _require_valid(targets, Path(work))
        for number in range(arguments.batches):
            if time.monotonic() - started > arguments.seconds:
                break
            batch = Batch(
                targets[number % len(targets)], f"{arguments.seed}-{number}", arguments.cases, arguments.cpu_seconds
            )
            _run_batch(batch, Path(work), arguments.out, tally)
    for target in targets:
        read = tally.values[target.name]
        print(f"{target.name:24} {tally.cases[target.name]:8} cases, of which {read:7} were read")
    total = sum(tally.cases.values())
    print(f"{total} cases in {time.monotonic() - started:.0f} s, {len(tally.findings)} findings")
    for finding, times in tally.findings.most_common():
        print(f"{times:6} times: {finding}")
    sys.exit(1 if tally.findings else 0)


def _require_valid(targets: Sequence[Target], work: Path) -> None:
    """Reads every folder unchanged, or what comes of the changed ones shows nothing."""
    for target in targets:
        for files in target.folders:
            _write_files(files, work / "case")
            target.read(work / "case")


def _run_batch(batch: Batch, work: Path, out: Path, tally: Tally) -> None:
    """Runs cases in a child, in another one from where that one dies."""
    name, first = batch.target.name, 0
    while first < batch.cases:
        child = os.fork()
        if child == 0:
            _run_cases(batch, first, work)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        report = json.loads((work / "progress").read_text())
        done = report["case"] + 1
        tally.cases[name] += done - first
        tally.values[name] += report["values"]
        if status != 0:
            died = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"
            ended = {"SIGPROF": f"took more than {batch.cpu_seconds:g} s of processor time"}.get(
                died, f"ended by {died}"
            )
            _found(f"{name}: {ended}", work / "case", out, tally)
        first = done
        for finding in report["findings"]:
            tally.findings[finding] += 1
        if report["findings"]:
            shutil.copytree(work / "kept", out, dirs_exist_ok=True)


def _found(finding: str, case: Path, out: Path, tally: Tally) -> None:
    tally.findings[finding] += 1
    _keep(finding, case, out)


def _keep(finding: str, case: Path, out: Path) -> None:
    folder = out / "".join(letter if letter.isalnum() else "_" for letter in finding)[:120]
    if not folder.exists():
        shutil.copytree(case, folder)


def _run_cases(batch: Batch, first: int, work: Path) -> None:
    """Runs cases in this process until one ends it; what came of them stands in a file."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    shutil.rmtree(work / "kept", ignore_errors=True)
    warnings.simplefilter("error")  # nobody should be told of a file in this way either
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python's own, for pickles with old escapes
    target, values = batch.target, 0
    findings: list[str] = []
    for case in range(first, batch.cases):
        folder = work / "case"
        _write_case(target, folder, random.Random(f"{batch.seed}-{case}"))
        report = {"case": case, "values": values, "findings": findings}
        (work / "progress").write_text(json.dumps(report))
        signal.setitimer(signal.ITIMER_PROF, batch.cpu_seconds)
        finding = _finding(target, folder)
        signal.setitimer(signal.ITIMER_PROF, 0)
        values += finding is None
        if finding:
            findings.append(f"{target.name}: {finding}")
            _keep(findings[-1], folder, work / "kept")
        report = {"case": case, "values": values, "findings": findings}
        (work / "progress").write_text(json.dumps(report))


def _write_case(target: Target, folder: Path, chance: random.Random) -> None:
    """Writes one of a target's folders, one file of it changed."""
    files = chance.choice(target.folders)
    other = chance.choice([name for name in files if name not in target.left_alone])
    _write_files({**files, other: changed(files[other], chance, is_pickle=target.is_pickle)}, folder)


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _finding(target: Target, folder: Path) -> str | None:
    """Returns what a reader did wrong, None where it returned a value, an empty text where it raised our error."""
    try:
        strange = target.strange_in(target.read(folder))
        return f"returned {strange}" if strange else None
    except AmlEdgeError as error:
        return "took all memory" if "MemoryError" in str(error) else ""
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "aml_edge" in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} at {place}: {str(error)[:80]}"


def changed(content: bytes, chance: random.Random, *, is_pickle: bool) -> bytes:
    """Returns the content with a few changes, of operations where it is a pickle, else of bytes."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        operations = is_pickle and chance.random() < 0.6
        content = _other_operations(content, chance) if operations else _other_bytes(content, chance)
    return content


def _other_bytes(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    end = min(len(content), start + chance.choice((0, 1, 1, 2, 4, 8, 64)))
    piece = content[start:end]
    by_chance: tuple[Callable[[], bytes], ...] = (
        lambda: content[:start] + chance.choice(_INTERESTING) + content[end:],
        lambda: content[:start] + chance.randbytes(len(piece)) + content[end:],
        lambda: content[:start] + bytes(byte ^ 1 << chance.randrange(8) for byte in piece) + content[end:],
        lambda: content[:start] + content[end:],
        lambda: content[:start] + piece * chance.choice((2, 3, 50)) + content[end:],
        lambda: content[:start],
        lambda: content[:start] + content[chance.randrange(len(content) + 1) :][:64] + content[end:],
    )
    return chance.choice(by_chance)()


def _other_operations(content: bytes, chance: random.Random) -> bytes:
    try:
        places = [place for _, _, place in pickletools.genops(content) if place is not None]
    except Exception:  # changed before into what is no pickle
        return _other_bytes(content, chance)
    pieces = [content[start:end] for start, end in zip(places, [*places[1:], len(content)], strict=True)]
    at, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
    new = chance.choice(_OPERATIONS)
    by_chance: tuple[Callable[[], list[bytes]], ...] = (
        lambda: [*pieces[:at], new, *pieces[at:]],
        lambda: [*pieces[:at], new, *pieces[at + 1 :]],
        lambda: [*pieces[:at], *pieces[at + 1 :]],
        lambda: [*pieces[:at], pieces[other], *pieces[at:]],
        lambda: [*pieces[:at], *pieces[min(at, other) : max(at, other)], *pieces[at:]],
        lambda: [*pieces[:at], *[new] * chance.choice((20, 500)), *pieces[at:]],
        lambda: [*pieces[:at], *[chance.choice(_OPERATIONS) for _ in range(6)], *pieces[at:]],
    )
    return b"".join(chance.choice(by_chance)())


if __name__ == "__main__":
    main()
