"""Vectors of another tool that are what a teacher gives of a few images, for tests of imports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from aml_edge.embedder import FakeEmbedder
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.vectors.source import SourceDescription, VectorBlock, VectorDtype

COUNT, DIMENSION, SIDE = 24, 8, 32


class ArraySource:
    """A VectorSource over an array, in blocks of five rows.

    Args:
        rows: (N, D).
        ids: N of its own, or None.
        count: that it claims; N where None.
        more: of its description.
    """

    files: Sequence[Path] = ()

    def __init__(
        self, rows: npt.NDArray[Any], ids: tuple[str, ...] | None = None, count: int | None = None, **more: Any
    ) -> None:
        self._rows, self._ids = rows, ids
        dtype: VectorDtype = str(rows.dtype)  # type: ignore[assignment]
        described = SourceDescription("array", "team", len(rows) if count is None else count, rows.shape[1], dtype)
        self.description = replace(described, has_ids=ids is not None, **more)

    def blocks(self) -> Iterator[VectorBlock]:
        for start in range(0, len(self._rows), 5):
            part = slice(start, start + 5)
            yield VectorBlock(self._rows[part], None if self._ids is None else self._ids[part])

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def array_source() -> type[ArraySource]:
    """The class of such sources."""
    return ArraySource


@pytest.fixture(scope="session")
def toy_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of smooth blobs, each unlike the others, 64 px and so larger than what the teacher sees."""
    root, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in (f"{number:02}.png" for number in range(COUNT)):
        pixels = Image.fromarray(generator.integers(0, 255, (4, 5, 3), dtype=np.uint8))
        pixels.resize((64, 50), Image.Resampling.NEAREST).save(root / name)
    return root


@pytest.fixture(scope="session")
def toy_rows(toy_images: Path) -> npt.NDArray[np.float32]:
    """(24, 8), what the teacher `toy` gives of them at 32 px."""
    teacher = FakeEmbedder(EmbeddingSpace("toy", "a" * 64, DIMENSION), Preprocessing(SIDE))
    return embed_items(teacher, [ImageItem(path) for path in sorted(toy_images.iterdir())])
