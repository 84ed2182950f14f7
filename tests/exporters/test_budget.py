"""A budget that is not kept fails the file, in words that say by how much; a verdict is of the real file's rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from aml_edge.artifact import Artifact, Verdict
from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.exporters import budget
from aml_edge.exporters.budget import Budget, BudgetSearch, Chosen, FileCost, cost_of, judged_by_budget, over_budget
from aml_edge.exporters.judgement import Judgement
from aml_edge.exporters.preparation import PreparedStudent
from aml_edge.exporters.quantization.block_prices import BlockPrices
from aml_edge.exporters.quantization.search import FloatBlock, MixedPrecision
from aml_edge.exporters.verification import Verification
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.map_drop import Drop, QuerySplit
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.quantization_record import SearchBy, SearchRecord

KEPT = SearchRecord(0.5, SearchBy.SIZE, 30, 31, 0.1, -0.2, 0.4, held=True)
COST = FileCost(4_310_000, 13_480_000, 0.917)
NOT_KEPT = replace(KEPT, drop=1.25, low=0.5, high=2.0, held=False)


def chosen_by_search(*, held: bool = True, queries: Any = None, split: QuerySplit | None = None) -> Chosen:
    prices = BlockPrices(SearchBy.SIZE, "bytes", {"blocks.1.0": 250_000.0, "adaptor": 1_000_000.0})
    drop = Drop(0.1, 0.0, 0.4, 30)
    kept = FloatBlock("blocks.1.0", drop, "0.25 MB")
    found = MixedPrecision(frozenset({"head", "blocks.1.0"}), (kept,), drop, 0.5, held, prices, 3)
    return Chosen(cast(Any, None), found, queries, split or QuerySplit((0,), (1,)))


def verified(verdict: Verdict = Verdict.VERIFIED, reasons: tuple[str, ...] = ()) -> Verification:
    return Verification(Path("a.onnx"), cast(Any, None), Judgement(verdict, reasons, ("a warning",)))


def test_kept_budget_leaves_the_verdict_as_it_is() -> None:
    verification = verified()

    assert judged_by_budget(verification, chosen_by_search(), KEPT, COST) is verification


@pytest.mark.parametrize(("held", "record"), [(True, NOT_KEPT), (False, KEPT), (False, NOT_KEPT)])
@pytest.mark.parametrize("verdict", [Verdict.VERIFIED, Verdict.NOT_RUN])
def test_budget_that_is_not_kept_fails_the_file(held: bool, record: SearchRecord, verdict: Verdict) -> None:
    chosen = chosen_by_search(held=held)
    judgement = judged_by_budget(verified(verdict), chosen, record, COST).judgement

    assert judgement.verdict is Verdict.FAILED
    assert judgement.reasons == (over_budget(chosen_by_search(held=held), record, COST),)
    assert judgement.warnings == ("a warning",)


def test_other_reasons_stay() -> None:
    judgement = judged_by_budget(
        verified(Verdict.FAILED, ("pairs differ",)), chosen_by_search(), NOT_KEPT, COST
    ).judgement

    assert judgement.reasons == (over_budget(chosen_by_search(), NOT_KEPT, COST), "pairs differ")


def test_words_say_what_is_lost_what_it_costs_and_what_to_do() -> None:
    assert over_budget(chosen_by_search(), NOT_KEPT, COST) == (
        "`max_drop` is 0.5, but 1.25 [0.50, 2.00] points of asymmetric mAP are lost on 31 queries that did not choose "
        "(it held on those that chose); the best found keeps 1 more block in floating point for 0.25 MB: "
        "4.31 MB beside 13.48 in fp32, 92 % of multiplications in integers; allow more, train for "
        "integers (`aml-edge train --qat`), or export fp32"
    )
    assert "no choice of blocks keeps it on those that chose either" in over_budget(
        chosen_by_search(held=False), NOT_KEPT, COST
    )


def test_interval_that_is_wider_than_the_budget_asks_for_queries() -> None:
    wide = replace(NOT_KEPT, drop=0.25)
    assert "; allow more, measure on more queries, which narrow the interval, train for integers" in over_budget(
        chosen_by_search(), wide, COST
    )


def test_cost_counts_weights_and_multiplications(quantized: QuantizedStudent, tmp_path: Path) -> None:
    """Slowly: every convolution's weights at every place of its result, seen by hooks."""
    network = quantized.graph.network
    macs: dict[str, int] = {}
    weights: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def hook(module: nn.Conv2d, inputs: Any, result: torch.Tensor) -> None:
            weights[name] = module.weight.numel()
            macs[name] = weights[name] * result.shape[2] * result.shape[3]

        return hook

    hooks = [
        module.register_forward_hook(count(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    stem = next(count for name, count in macs.items() if "conv_stem" in name)
    (tmp_path / "a.onnx").write_bytes(b"12345")
    file = Artifact(tmp_path / "a.onnx", cast(Any, None))

    cost = cost_of(file, PreparedStudent(quantized, cast(Any, None)))

    assert quantized.quantization.float_blocks == {"conv_stem", "head"}
    assert cost.size_bytes == 5
    assert cost.float_size_bytes == 4 * sum(weights.values())
    assert cost.integer_share == pytest.approx(1 - stem / sum(macs.values()))


@pytest.mark.parametrize("points", [-0.1, math.nan, math.inf])
def test_budget_that_is_no_number_of_points_is_refused(points: float) -> None:
    with pytest.raises(UsageError, match=r"^`max_drop` is .*; it is how many points of 100 of asymmetric mAP"):
        Budget(points, SearchBy.SIZE)


class Rows:
    """Stands for an embedder of queries whose rows are known: images are their places."""

    def __init__(self, rows: Embeddings) -> None:
        self._rows = rows

    def embed(self, images: list[int]) -> Embeddings:
        return self._rows[images]

    def close(self) -> None:
        """It holds nothing."""


def test_verdict_is_of_the_files_rows_on_queries_that_did_not_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the queries judge; the file's rows answer those of them wrongly, the others rightly."""
    count = 40
    angles = np.linspace(0, math.pi, count)
    student = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    split = QuerySplit(tuple(range(0, count, 2)), tuple(range(1, count, 2)))
    file = student.copy()
    file[list(split.verdict)] = -file[list(split.verdict)]
    truth = tuple(QueryGroundTruth(easy=(place,), hard=(), junk=()) for place in range(count))

    class Queries:
        images, ground_truth, database = tuple(range(count)), truth, student

    search = object.__new__(BudgetSearch)
    search._checkpoint = search._whitening = cast(Any, None)
    monkeypatch.setattr(budget, "student_embedder", lambda *_, **__: Rows(student))
    monkeypatch.setattr(budget, "open_artifact", lambda *_: Rows(file))
    monkeypatch.setattr(budget, "verification_runtime", lambda _: "any")
    monkeypatch.setattr(budget, "closing", nullcontext)

    class File:
        class manifest:
            preprocessing = None

    record = search.judge(cast(Artifact, File()), chosen_by_search(queries=Queries(), split=split))

    # The student finds each query itself first: AP 1. The opposite vector finds it last: trapezoidal AP of rank 39.
    lost = 100 * (1 - (0 + 1 / count) / 2)
    assert record.drop == pytest.approx(lost, abs=1e-3)
    assert (record.held, record.verdict_queries, record.selection_queries) == (False, 20, 20)
    assert record.max_drop == 0.5
