"""A query as the published protocol embeds it, from its file to its row, beside all of it written out slowly.

Box, size, three scales, GeM, the mean of its power, whitening: each step in float64 with loops, nothing of the package
but the trunk's feature maps and the numbers of the layers. Source: Radenović, Tolias, Chum, TPAMI 2019; Budnik and
Avrithis, CVPR 2021.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import load_pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder
from aml_edge.scales import PUBLISHED_SCALES

Array = npt.NDArray[np.float64]
SIDE = 96
POWER, EPSILON = 2.7, 1e-6
FLOAT32 = 2e-5
"""Float32 from the trunk on, over three scales and a whitening of 1280 × 12, against float64."""
ROUNDED = 1e-3
"""What pixels that are rounded the other way make of a row; a box moved by one pixel makes a hundred times as much."""


@pytest.fixture(scope="module")
def teacher() -> TeacherCheckpoint:
    network = Teacher(TeacherSpec("mobilenetv2_035"), seed=4).eval()
    torch.nn.init.constant_(network.pool.p, POWER)
    return TeacherCheckpoint(network, "toy", Preprocessing(SIDE))


@pytest.fixture(scope="module")
def whitening(teacher: TeacherCheckpoint) -> Whitening:
    generator = torch.Generator().manual_seed(5)
    dimension = teacher.teacher.dimension
    return Whitening(torch.rand(dimension, generator=generator) / 30, torch.randn(12, dimension, generator=generator))


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """150 × 110 px, smooth enough that resizing by one pixel more or less would show."""
    generator = np.random.default_rng(6)
    coarse = Image.fromarray(generator.integers(0, 256, size=(12, 16, 3), dtype=np.uint8))
    coarse.resize((150, 110), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def triangle(pixels: Array, size: int) -> Array:
    """Resizes the columns of (H, W, 3), each from pixels under a triangle as wide as two of the coarser; 8 bits."""
    height, width, _ = pixels.shape
    ratio = width / size
    reach = max(ratio, 1.0)
    result = np.zeros((height, size, 3))
    for column in range(size):
        centre = (column + 0.5) * ratio
        weights = [max(0.0, 1 - abs((place + 0.5 - centre) / reach)) for place in range(width)]
        for place, weight in enumerate(weights):
            result[:, column] += weight / sum(weights) * pixels[:, place]
    return np.floor(result + 0.5)


def bilinear(image: Array, height: int, width: int) -> Array:
    """Resizes (3, H, W) without smoothing: four pixels round each centre, those outside the nearest inside."""
    result = np.empty((3, height, width))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * image.shape[1] / height - 0.5, 0.0)
            x = max((column + 0.5) * image.shape[2] / width - 0.5, 0.0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, image.shape[1] - 1), min(left + 1, image.shape[2] - 1)
            above = image[:, top, left] * (1 - (x - left)) + image[:, top, right] * (x - left)
            below = image[:, bottom, left] * (1 - (x - left)) + image[:, bottom, right] * (x - left)
            result[:, row, column] = above * (1 - (y - top)) + below * (y - top)
    return result


def gem(features: Array) -> Array:
    """Pools (D, h, w): the mean of the powers of what is at least epsilon, its root, and L2 with epsilon."""
    pooled = np.empty(len(features))
    for channel, values in enumerate(features):
        total = sum(max(float(value), EPSILON) ** POWER for value in values.ravel())
        pooled[channel] = (total / values.size) ** (1 / POWER)
    return pooled / (math.sqrt(sum(pooled**2)) + EPSILON)


def fitted_slowly(photograph: Path, box: tuple[int, int, int, int]) -> Array:
    with Image.open(photograph) as opened:
        whole = np.asarray(opened, np.float64)
    cut = whole[box[1] : box[3], box[0] : box[2]]
    share = SIDE / max(whole.shape[:2])  # as the whole image is reduced
    height, width = (math.floor(side * share + 0.5) for side in cut.shape[:2])
    return triangle(triangle(cut, width).transpose(1, 0, 2), height).transpose(1, 0, 2)


def embedded_slowly(fitted: Array, teacher: Teacher, whitening: Whitening) -> Array:
    height, width, _ = fitted.shape
    image: Array = ((fitted / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
    total = np.zeros(teacher.dimension)
    for scale in (1, 1 / math.sqrt(2), 1 / 2):
        smaller = bilinear(image, int(height * scale), int(width * scale)) if scale != 1 else image
        with torch.inference_mode():
            features = teacher.backbone(torch.from_numpy(smaller)[None].float())[0]
        total += gem(features.numpy().astype(np.float64)) ** POWER
    mean = (total / 3) ** (1 / POWER)
    mean /= np.linalg.norm(mean)
    rotated = whitening.projection.double().numpy() @ (mean - whitening.mean.double().numpy())
    row: Array = rotated / np.linalg.norm(rotated)
    return row


def test_a_query_s_row_is_that_of_the_published_protocol(
    photograph: Path, teacher: TeacherCheckpoint, whitening: Whitening
) -> None:
    embedder = teacher_embedder(teacher, Preprocessing(SIDE), whitening=whitening, scales=PUBLISHED_SCALES, threads=1)
    box = (13, 9, 128, 101)
    (row,) = embed_items(embedder, [ImageItem(photograph, box)])
    fitted = load_pixels(photograph, Preprocessing(SIDE), box).astype(np.float64)
    apart = np.abs(fitted - fitted_slowly(photograph, box))
    assert apart.max() <= 1  # Pillow counts in fixed point, so a value next to a half may round the other way
    assert (apart > 0).mean() < 0.002
    expected = embedded_slowly(fitted, teacher.teacher, whitening)
    assert row.shape == (12,)
    np.testing.assert_allclose(row, expected, atol=FLOAT32)
    for chosen, least, most in (
        (box, 0, ROUNDED),
        ((12, 9, 128, 101), 50 * ROUNDED, 2),
        ((0, 0, 150, 110), 50 * ROUNDED, 2),
    ):
        slowly = embedded_slowly(fitted_slowly(photograph, chosen), teacher.teacher, whitening)
        assert least <= np.abs(slowly - expected).max() <= most
