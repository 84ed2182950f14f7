"""`analyse_quantization`: its parts are those that were measured one by one, and the ruined block is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aml_edge.exporters.quantization.analysis import QuantizationAnalysis, analyse_quantization
from aml_edge.exporters.quantization.query_set import QuerySet
from aml_edge.exporters.quantization.sensitivity import embed_float, embed_quantized, embedding_error
from aml_edge.map_drop import measure_drop

QUERIES, OTHERS = 10, 6


@pytest.fixture(scope="module")
def queries(ruined: Any) -> QuerySet:
    taken: QuerySet = ruined.queries.taken(range(QUERIES))
    return taken


@pytest.fixture(scope="module")
def analysis(ruined: Any, queries: QuerySet) -> QuantizationAnalysis:
    return analyse_quantization(ruined.post_training, queries, ruined.queries.images[-OTHERS:])


def test_every_block_is_there_in_run_order(ruined: Any, analysis: QuantizationAnalysis) -> None:
    assert tuple(part.name for part in analysis.blocks) == ruined.post_training.graph.blocks
    assert [part.name for part in analysis.blocks if part.float_by_default] == ["conv_stem", "head"]
    assert (analysis.images, analysis.queries, analysis.drift_images) == (QUERIES + OTHERS, QUERIES, QUERIES + OTHERS)


def test_the_ruined_block_loses_the_map_and_so_does_a_file(ruined: Any, analysis: QuantizationAnalysis) -> None:
    lost = {part.name: part.medium.points for part in analysis.blocks if part.medium is not None}
    assert len(lost) == len(analysis.blocks)
    assert max(lost, key=lambda block: lost[block]) == ruined.block
    assert lost[ruined.block] > 20
    assert sorted(lost.values())[-2] < 5
    assert analysis.exported.medium is not None and analysis.exported.medium.points > 20


def test_a_setting_without_a_positive_has_no_map(analysis: QuantizationAnalysis) -> None:
    assert {part.hard for part in (*analysis.blocks, analysis.exported, analysis.everything)} == {None}


def test_what_a_file_has_in_integers_is_measured_as_a_whole(
    ruined: Any, queries: QuerySet, analysis: QuantizationAnalysis
) -> None:
    images = (*queries.images, *ruined.queries.images[-OTHERS:])
    before = embed_float(ruined.post_training.graph, images)
    for part, student in (
        (analysis.exported, ruined.post_training.quantized()),
        (analysis.everything, ruined.post_training.quantized(())),
    ):
        after = embed_quantized(student, images)
        assert part.error == embedding_error(before, after)
        rows = (before[:QUERIES], after[:QUERIES])
        assert part.medium == measure_drop(*rows, queries.database, queries.ground_truth, range(QUERIES))
    assert (analysis.exported.name, analysis.everything.name) == ("as exported", "all blocks")


def test_queries_are_taken_with_what_belongs_to_them(queries: QuerySet) -> None:
    taken = queries.taken([3, 1])
    assert [one.easy for one in taken.ground_truth] == [(3,), (1,)]
    assert np.array_equal(taken.images[1], queries.images[1])
    assert taken.database is queries.database
    with pytest.raises(AssertionError):
        replace(queries, images=queries.images[1:])
