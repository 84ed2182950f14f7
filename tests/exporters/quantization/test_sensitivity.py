"""Each block alone in integers: the same embeddings as the whole network gives with all other blocks in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.exporters.quantization import continuation
from aml_edge.exporters.quantization.continuation import continuation_of
from aml_edge.exporters.quantization.sensitivity import (
    embed_float,
    embed_quantized,
    embed_with_each_block_alone,
    embedding_error,
)
from aml_edge.quantization.post_training import PostTraining

Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]
SOME = ("conv_stem", "blocks.0.0", "blocks.2.1", "conv_head", "adaptor", "head")


@pytest.fixture(scope="module")
def images(calibration_crops: Images) -> Images:
    """More than one batch."""
    return calibration_crops[:20]


def test_a_block_alone_gives_what_the_whole_network_does(post_training: PostTraining, images: Images) -> None:
    """To the last bit: no operator is computed in another way."""
    alone = embed_with_each_block_alone(post_training, images)
    assert tuple(alone.of_block) == post_training.graph.blocks
    assert np.array_equal(alone.float_rows, embed_float(post_training.graph, images))
    for block in SOME:
        others = [other for other in post_training.graph.blocks if other != block]
        whole = embed_quantized(post_training.quantized(others), images)
        assert np.array_equal(alone.of_block[block], whole), block
        assert not np.array_equal(whole, alone.float_rows), block


def test_a_network_without_a_place_to_go_on_from_is_run_whole(
    post_training: PostTraining, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = post_training.quantized(())
    (expected,) = embed_with_each_block_alone(post_training, images[:2], ["blocks.2.1"]).of_block.values()
    assert continuation_of(whole, "blocks.2.1", post_training.graph).activation == "blocks.2.0.conv_pwl"
    monkeypatch.setattr(continuation, "_start", lambda graph, nodes, block: (0, None))
    assert continuation_of(whole, "blocks.2.1", post_training.graph).activation is None
    (rows,) = embed_with_each_block_alone(post_training, images[:2], ["blocks.2.1"]).of_block.values()
    assert np.array_equal(rows, expected)


def test_it_is_announced_by_image_and_block(post_training: PostTraining, images: Images, progress: Any) -> None:
    embed_with_each_block_alone(post_training, images, ["adaptor", "head"], progress)
    assert progress.announced == [("each block alone in integers", 40)]
    assert progress.done == 40


def test_the_ruined_block_stands_out(ruined: Any) -> None:
    alone = embed_with_each_block_alone(ruined.post_training, ruined.queries.images[:8])
    lost = {block: embedding_error(alone.float_rows, rows).lost for block, rows in alone.of_block.items()}
    worst, *others = sorted(lost, key=lambda block: -lost[block])
    assert worst == ruined.block
    assert lost[worst] > 20 * lost[others[0]]


def test_activations_of_16_bits_cost_a_head_without_weights_nothing(
    post_training: PostTraining, calibration_crops: Images
) -> None:
    """On calibration images, of which nothing is cut off; of 8 bits they cost 4e-4."""
    images = calibration_crops[:16]
    lost = {}
    for bits in (8, 16):
        options = replace(post_training.options, activation_bits=bits)
        observed = replace(post_training, options=options, ranges={})
        alone = embed_with_each_block_alone(observed, images, ["head"])
        lost[bits] = embedding_error(alone.float_rows, alone.of_block["head"]).lost
    assert lost[16] < 1e-6 < 1e-4 < lost[8]


def test_errors_are_those_of_angles(embeddings: Callable[..., Rows]) -> None:
    """The mean of rows at ±90° about an axis is 0, so centring changes nothing; a turn by 10° costs 1 − cos 10°."""
    before, after = embeddings(0, 90, 180, 270), embeddings(10, 90, 180, 270)
    error = embedding_error(before, after)
    turned = np.cos(np.radians(10))
    assert error.smallest_centred_cosine == pytest.approx(turned, abs=1e-6)
    assert error.mean_centred_cosine == pytest.approx((turned + 3) / 4, abs=1e-6)
    assert error.lost == pytest.approx((1 - turned) / 4, abs=1e-6)
    assert error.largest_pair_error == pytest.approx(np.sin(np.radians(10)), abs=1e-6)  # to the rows at 90° and 270°
    pairs = 2 * np.sin(np.radians(10)) + (1 - turned)
    assert error.mean_pair_error == pytest.approx(pairs / 6, abs=1e-6)


def test_an_embedding_that_is_not_finite_is_the_largest_error(embeddings: Callable[..., Rows]) -> None:
    before, after = embeddings(0, 90, 180), embeddings(0, 90, 180)
    after[1] = np.nan
    error = embedding_error(before, after)
    assert np.isnan(error.mean_centred_cosine)
    assert error.lost == float("inf")


@pytest.fixture
def embeddings() -> Callable[..., Rows]:
    """Returns a function of angles in degrees that gives unit rows of the plane."""

    def rows(*degrees: float) -> Rows:
        angles = np.radians(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    return rows
