"""Several processes do what one does: shares, sums, and whole trainings in processes that a launcher starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from aml_edge.training.processes import Processes

SCRIPT = Path(__file__).parent / "training_in_processes.py"
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
"""PyTorch's, which `accelerate launch` calls too."""
LONGEST_SECONDS = 240
DOUBLE_PRECISION = 1e-12
"""Of weights after some steps of Adam in float64: two processes take sums in another order."""
HALF_PRECISION = 0.05
"""Relative, of a loss: bfloat16 keeps 8 bits, and a network adds up many of its roundings."""
CASES = ("reg", "contr", "rkd", "rkd_of_one")


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_even_and_leave_nothing_out(total: int, count: int) -> None:
    taken: list[int] = []
    for rank in range(count):
        accelerator = SimpleNamespace(
            device=torch.device("cpu"), num_processes=count, process_index=rank, is_main_process=rank == 0
        )
        share = range(total)[Processes(cast(Any, accelerator)).own(total)]
        assert len(share) in (total // count, -(-total // count))
        taken += share
    assert taken == list(range(total))


def test_one_process_has_all_and_waits_for_none(processes: Processes) -> None:
    rows = torch.rand(3, 2, requires_grad=True)
    network = nn.Linear(2, 2)
    network.weight.grad = torch.ones(2, 2)
    assert processes.own(7) == slice(0, 7)
    assert processes.gathered(rows, 3) is rows
    assert processes.summed(rows) is rows
    assert (processes.any(True), processes.any(False)) == (True, False)
    processes.sum_gradients(network.parameters())
    processes.share(network)
    processes.wait()
    assert network.weight.grad.tolist() == [[1, 1], [1, 1]]
    assert network.bias.grad is None


@dataclass(frozen=True)
class Ends:
    """What the processes of one launch ended with.

    Args:
        told: of each process.
        folder: of their weights.
    """

    told: list[dict[str, Any]]
    folder: Path

    def weights(self, case: str, rank: int = 0) -> dict[str, Tensor]:
        return load_file(self.folder / f"{case}-{rank}.safetensors")


@pytest.fixture(scope="module")
def ends(pictures: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ends]:
    """The same trainings: in two processes and in one, in float64; in one in float32 and in bfloat16."""
    launches = {"two": "double", "one": "double", "float32": "no", "bfloat16": "bf16"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = {}
    for name, precision in launches.items():
        folder = tmp_path_factory.mktemp(name)
        launcher = LAUNCHER if name == "two" else ()
        command = [sys.executable, *launcher, str(SCRIPT), str(pictures[0].parent), str(folder), precision]
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as running:
            try:
                _, errors = running.communicate(timeout=LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)  # the launcher and what it started
                raise
        assert running.returncode == 0, errors
        told = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        found[name] = Ends(told, folder)
    return found


@pytest.mark.slow
def test_the_launcher_starts_two_processes(ends: dict[str, Ends]) -> None:
    assert [(told["count"], told["is_main"]) for told in ends["two"].told] == [(2, True), (2, False)]
    assert [(told["count"], told["is_main"]) for told in ends["one"].told] == [(1, True)]


@pytest.mark.slow
def test_sums_and_flags_are_those_of_all_processes(ends: dict[str, Ends]) -> None:
    for told in ends["two"].told:
        assert told["any"] == [False, True, True]
        assert told["sum"] == [2.0, 10.0]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_of_one(ends: dict[str, Ends], case: str) -> None:
    start, other_start = (ends["two"].weights("start", rank) for rank in (0, 1))
    one, two = ends["one"].weights(case), ends["two"].weights(case)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=DOUBLE_PRECISION, rtol=0, msg=name)
    assert not torch.equal(start["adaptor.weight"], other_start["adaptor.weight"])
    if case != "rkd_of_one":  # whose gradient is zero
        moved = [
            (two[name] - start[name]).abs().max().item() for name in two if not torch.equal(one[name], start[name])
        ]
        assert len(moved) > 150
        assert min(moved) > 1e-5  # a step is 1e-4 long


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_both_processes_end_with_the_same_bits(ends: dict[str, Ends], case: str) -> None:
    main, other = (ends["two"].weights(case, rank) for rank in (0, 1))
    assert all(torch.equal(main[name], other[name]) for name in main)
    assert ends["two"].told[0][case] == ends["two"].told[1][case]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_draw_and_tell_what_one_does(ends: dict[str, Ends], case: str) -> None:
    one, two = ends["one"].told[0][case], ends["two"].told[0][case]
    assert two["tuples"] == one["tuples"]
    for ours, theirs in zip(two["losses"], one["losses"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)  # they are logged in float32
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=1e-9)
    for name in ("embedding_of_one", "embeddings"):
        torch.testing.assert_close(torch.tensor(two[name]), torch.tensor(one[name]), atol=1e-6, rtol=0)
    anchors = {"rkd": [5, 5, 5, 5], "rkd_of_one": [1, 1]}.get(case, [5, 5, 1, 5, 5, 1])
    assert [anchor for _, anchor, _ in two["losses"]] == anchors


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_mixed_precision_learns_as_full_precision_does(ends: dict[str, Ends], case: str) -> None:
    full, half = ends["float32"].told[0][case], ends["bfloat16"].told[0][case]
    assert torch.tensor(half["losses"]).isfinite().all()
    assert half["validation_loss"] == pytest.approx(full["validation_loss"], rel=HALF_PRECISION)
    assert all(value.isfinite().all() for value in ends["bfloat16"].weights(case).values())
    assert {value.dtype for value in ends["bfloat16"].weights(case).values()} == {torch.float32, torch.int64}


@pytest.mark.slow
def test_each_loss_in_mixed_precision_is_near_that_in_full(ends: dict[str, Ends]) -> None:
    """Of Reg, whose tuples no rounding can change."""
    full, half = (torch.tensor(ends[name].told[0]["reg"]["losses"])[:, 0] for name in ("float32", "bfloat16"))
    torch.testing.assert_close(half, full, rtol=HALF_PRECISION, atol=0)
    assert ((half - full).abs() / full).max() > 1e-4  # it was in half precision
