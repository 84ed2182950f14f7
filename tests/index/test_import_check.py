"""A few images embedded again: rows that agree are recorded, and why others do not is found out where it can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.embedder import Embedder, FakeEmbedder
from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.image_loading import ImageItem, embed_items
from aml_edge.index.declared_space import DeclaredSpace, OtherSpace
from aml_edge.index.import_check import CheckingImages, rows_with_images
from aml_edge.index.import_ids import GivenIds
from aml_edge.index.importing import ImportOptions, import_index
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

COUNT, DIMENSION = 24, 8
SPACE = EmbeddingSpace("toy", "a" * 64, DIMENSION)
DECLARED = DeclaredSpace(SPACE, Preprocessing(32))
DEFAULT_IDS = tuple(f"{number:02}.png" for number in range(COUNT))


def embedder(preprocessing: Preprocessing = DECLARED.preprocessing) -> Embedder:
    return FakeEmbedder(SPACE, preprocessing)


def given(ids: Sequence[str] = DEFAULT_IDS) -> GivenIds:
    return GivenIds(Path("ids.txt"), tuple(ids))


def checking(toy_images: Path, **more: Any) -> CheckingImages:
    return CheckingImages(toy_images, lambda declared: embedder(declared.preprocessing), **more)


def refused(tmp_path: Path, kind: type[Exception], source: Any, options: ImportOptions, **more: Any) -> str:
    """Returns the message of an import that fails; asserts that it leaves nothing."""
    with pytest.raises(kind) as refusal:
        import_index(source, more.get("declared", DECLARED), tmp_path / "ix", options)
    assert not list(tmp_path.glob("ix*"))
    return str(refusal.value)


def test_images_that_agree_are_recorded(
    array_source: Any, tmp_path: Path, toy_images: Path, toy_rows: npt.NDArray[np.float32], progress: Any
) -> None:
    turned = toy_rows.copy()  # by a known angle, so that the lowest cosine is known
    turned[0] = _turned(toy_rows[0], 0.1)
    options = ImportOptions(given(), images=checking(toy_images, at_most=5))
    index = import_index(array_source(turned), DECLARED, tmp_path / "ix", options, progress=progress)
    assert index.imported is not None
    assert index.imported.check is not None
    assert index.imported.check.images == 5
    assert index.imported.check.lowest_cosine == pytest.approx(np.cos(0.1), abs=1e-6)
    assert index.imported.check.median_cosine == pytest.approx(1, abs=1e-6)
    assert json.loads((index.path / "index.json").read_text())["imported"]["check"]["least_cosine"] == 0.99
    assert progress.announced == [("importing", COUNT), ("checking images", 5)]


def _turned(row: npt.NDArray[np.float32], angle: float) -> npt.NDArray[np.float32]:
    """Returns a unit row at an angle, in radians, from another."""
    across = np.eye(DIMENSION)[0] - row[0] * row
    turned: npt.NDArray[np.float32] = (np.cos(angle) * row + np.sin(angle) * across / np.linalg.norm(across)).astype(
        np.float32
    )
    return turned


def test_images_that_are_there_are_taken_evenly(toy_images: Path) -> None:
    ids = ("no.png", *DEFAULT_IDS, "../x.png", "/etc/passwd")
    assert rows_with_images(ids, toy_images, 4).tolist() == [1, 7, 13, 19]
    assert rows_with_images(ids, toy_images, 100).tolist() == list(range(1, 25))
    with pytest.raises(UsageError) as refusal:
        rows_with_images(("no.png", "../00.png"), toy_images, 4)
    assert str(refusal.value) == (
        f"`images` is {toy_images}, where no image of 2 ids is (the first is 'no.png'); ids are paths below that "
        "folder: give the folder that they are relative to, or other ids."
    )


def test_ids_in_another_order_are_found_out(
    array_source: Any, tmp_path: Path, toy_images: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    shifted = given((*DEFAULT_IDS[1:], DEFAULT_IDS[0]))
    message = refused(
        tmp_path, ForeignIndexError, array_source(toy_rows), ImportOptions(shifted, images=checking(toy_images))
    )
    assert message.startswith("16 of 16 images have rows that are not what the teacher gives of them (01.png, 02.png, ")
    assert message.endswith(
        "; 16 of them are there under other ids, as that of 01.png is under 02.png: the ids are in another order than "
        "the rows; give them in the rows' order."
    )


def test_a_few_other_images_are_found_out(
    array_source: Any, tmp_path: Path, toy_images: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    replaced = toy_rows.copy()
    replaced[[3, 9]] = _turned(toy_rows[3], 0.5)
    options = ImportOptions(given(), images=checking(toy_images, at_most=COUNT))
    message = refused(tmp_path, ForeignIndexError, array_source(replaced), options)
    assert message.startswith("2 of 24 images have rows that are not what the teacher gives of them (03.png, 09.png): ")
    assert message.endswith(
        "; the others agree, so the teacher is right and these images are other ones than were embedded: give the "
        "images that the index was made from."
    )


def at_size(side: int) -> OtherSpace:
    return OtherSpace(f"--image-size {side}", replace(DECLARED, preprocessing=Preprocessing(side)))


def test_another_size_is_found_out(
    array_source: Any, tmp_path: Path, toy_images: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    declared = replace(DECLARED, preprocessing=Preprocessing(5))
    own = _lowest(toy_images, 5, toy_rows)
    assert own < 0.99
    plan = checking(toy_images, others=[at_size(6), at_size(32), at_size(48)])
    message = refused(
        tmp_path, ForeignIndexError, array_source(toy_rows), ImportOptions(given(), images=plan), declared=declared
    )
    assert f"lowest cosine {own:.4f}, median " in message
    assert ", and 0.99 is asked for; " in message
    assert message.endswith("; with `--image-size 32` their lowest cosine is 1.0000: import them so.")


def test_what_cannot_be_found_out_is_said(
    array_source: Any, tmp_path: Path, toy_images: Path, toy_rows: npt.NDArray[np.float32]
) -> None:
    other = np.random.default_rng(1).normal(size=(DIMENSION, DIMENSION))
    strange = (toy_rows @ np.linalg.qr(other)[0]).astype(np.float32)  # other weights: the same space, turned
    nearest = _lowest(toy_images, 6, strange, 4)
    assert nearest > _lowest(toy_images, 32, strange, 4)
    plan = checking(toy_images, others=[at_size(6)])
    message = refused(tmp_path, ForeignIndexError, array_source(strange), ImportOptions(given(), images=plan))
    assert message.endswith(
        "; no other size, fit, scales or whitening of this teacher gives them, the nearest being `--image-size 6` with "
        f"{nearest:.4f}: other weights made them, another preprocessing, or a whitening of your own; name the teacher "
        "that did, or the whitening with --whitening, or lower "
        "--least-cosine where you know why."
    )
    plan = checking(toy_images, others=[])
    message = refused(tmp_path, ForeignIndexError, array_source(strange), ImportOptions(given(), images=plan))
    assert "of this teacher gives them: other weights made them" in message


def _lowest(toy_images: Path, side: int, toy_rows: npt.NDArray[np.float32], count: int = 16) -> float:
    """Returns the lowest cosine, image by image, of the rows that a check looks at with what the teacher gives."""
    cosines = []
    for place in range(16):
        row = place * COUNT // 16
        (embedding,) = embed_items(embedder(Preprocessing(side)), [ImageItem(toy_images / DEFAULT_IDS[row])])
        cosines.append(float(np.dot(embedding.astype(np.float64), toy_rows[row])))
    return min(cosines[:count])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"at_most": 0}, "`check_images` is 0; checking takes at least one image."),
        ({"least_cosine": 0}, "`least_cosine` is 0; it must be above 0 and at most 1."),
        ({"least_cosine": 1.1}, "`least_cosine` is 1.1; it must be above 0 and at most 1."),
    ],
)
def test_numbers_that_cannot_be_are_refused(toy_images: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        checking(toy_images, **more)
    assert str(refusal.value) == said


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        checking(tmp_path / "no")
    assert str(refusal.value) == (
        f"`images` is {tmp_path / 'no'}, which is no folder; give the one that ids are relative to."
    )
