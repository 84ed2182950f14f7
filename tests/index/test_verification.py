"""Checking a whole index: what was built holds, and whatever was changed since is named."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.index import verification as index_verification
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.index.images import encode_image_hashes
from aml_edge.index.verification import IndexCheck, require_verified, verify_index
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("toy", "a" * 64, 8)
COUNT = 7
AS_BUILT = {
    "ids": (True, "7, as recorded"),
    "whitening": (True, "none"),
    "embeddings' SHA-256": (True, "as recorded"),
    "embeddings": (True, "all finite and of unit length"),
    "images' SHA-256": (True, "7, as recorded"),
}
SAME_IMAGES = {"images": (True, "all 7 files are the same")}
OLDER = (None, "not known: an older index does not say it")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for number in range(COUNT):
        noise = generator.integers(0, 256, (12, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / ("sub" if number == 3 else ".") / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def index(images: Path, tmp_path: Path) -> Path:
    return build_index(FakeEmbedder(SPACE, Preprocessing(16)), image_source(images), tmp_path / "ix").path


def found(index: Path, images: Path | None = None) -> dict[str, tuple[bool | None, str]]:
    return {check.name: (check.holds, check.found) for check in verify_index(index, images).checks}


@pytest.mark.parametrize("block_bytes", [1, 4 * 8 * 3, 1 << 24])
def test_what_was_built_holds(
    index: Path, images: Path, progress: Any, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(index_verification, "BLOCK_BYTES", block_bytes)
    assert found(index) == AS_BUILT
    verification = verify_index(index, images, progress=progress)
    assert (verification.path, verification.images) == (index, images)
    assert {check.name: (check.holds, check.found) for check in verification.checks} == AS_BUILT | SAME_IMAGES
    require_verified(verification)
    assert progress.announced == [("checking embeddings", COUNT), ("checking images", COUNT)]
    assert progress.done == 2 * COUNT


def test_a_whitening_is_said(images: Path, tmp_path: Path) -> None:
    whitening = Whitening(torch.zeros(12), torch.ones(8, 12))
    embedder = FakeEmbedder(replace(SPACE, whitening_sha256=whitening.sha256), Preprocessing(16))
    index = build_index(embedder, image_source(images), tmp_path / "white", IndexOptions(whitening)).path
    assert found(index) == AS_BUILT | {"whitening": (True, f"{whitening.sha256[:8]}, as recorded")}


@pytest.mark.parametrize("block_bytes", [1, 1 << 24])
@pytest.mark.parametrize(
    ("places", "factor", "sound"),
    [
        ([2], 1.0 + 2**-20, "all finite and of unit length"),
        ([2], 2.0, "1 of 7 are not finite or not of unit length (2.png)"),
        ([5, 1], math.nan, "2 of 7 are not finite or not of unit length (1.png, 6.png)"),
        (range(COUNT), 0.0, "7 of 7 are not finite or not of unit length (0.png, 1.png, 2.png, 4.png, 5.png, …)"),
    ],
)
def test_changed_embeddings_are_found(
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    block_bytes: int,
    places: list[int],
    factor: float,
    sound: str,
) -> None:
    """Ids are sorted: 0, 1, 2, 4, 5 and 6, then sub/3."""
    monkeypatch.setattr(index_verification, "BLOCK_BYTES", block_bytes)
    rows = np.load(index / "embeddings.npy", mmap_mode="r+")
    rows[list(places)] *= factor
    rows.flush()
    assert found(index) == AS_BUILT | {
        "embeddings' SHA-256": (False, "another one than index.json says"),
        "embeddings": (sound.startswith("all"), sound),
    }


def test_another_header_is_another_file(index: Path) -> None:
    """Of the same length, with the same rows behind it."""
    file = index / "embeddings.npy"
    content = file.read_bytes()
    file.write_bytes(content.replace(b" \n", b"\t\n", 1))
    assert file.read_bytes() != content
    assert found(index)["embeddings' SHA-256"] == (False, "another one than index.json says")


def test_changed_and_missing_images_are_named(index: Path, images: Path) -> None:
    (images / "0.png").write_bytes(b"other")
    (images / "sub" / "3.png").unlink()
    assert found(index) == AS_BUILT
    assert found(index, images) == AS_BUILT | {
        "images": (
            False,
            "of 7 files 1 have other bytes (0.png) and 1 cannot be read (sub/3.png: there is no such file)",
        )
    }


def test_another_folder_has_none_of_them(index: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    holds, said = found(index, tmp_path / "empty")["images"]
    assert holds is False
    assert said == (
        "of 7 files 7 cannot be read ("
        + ", ".join(f"{number}.png: there is no such file" for number in (0, 1, 2, 4, 5))
        + ", …)"
    )


def test_what_lies_beside_them_does_not_matter(index: Path, images: Path) -> None:
    (images / "new.png").write_bytes((images / "0.png").read_bytes())
    assert found(index, images) == AS_BUILT | SAME_IMAGES


@pytest.mark.parametrize("name", ["../images/0.png", "/dev/zero"])
def test_an_id_that_leads_out_of_the_folder_is_not_followed(index: Path, images: Path, name: str) -> None:
    """An index may come from anyone; the second one has no end."""
    ids = [name, *(index / "ids.txt").read_text().splitlines()[1:]]
    listing = "".join(f"{one}\n" for one in ids).encode()
    hashes = [line[:64] for line in (index / "images.sha256").read_text().splitlines()]
    written = encode_image_hashes(ids, hashes)
    (index / "ids.txt").write_bytes(listing)
    (index / "images.sha256").write_bytes(written)
    edited(index, ids_sha256=sha256(listing), images_sha256=sha256(written))
    assert found(index, images)["images"] == (False, f"of 7 files 1 would lie outside of the folder ({name})")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def edited(index: Path, **changes: object) -> None:
    record = json.loads((index / "index.json").read_text()) | changes
    (index / "index.json").write_text(json.dumps({name: value for name, value in record.items() if value is not None}))


@pytest.mark.parametrize("block_bytes", [1, 2 * 8 * 3, 1 << 24])
def test_half_precision_is_read_to_its_end(index: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(index_verification, "BLOCK_BYTES", block_bytes)
    rows = np.load(index / "embeddings.npy").astype(np.float16)
    np.save(index / "embeddings.npy", rows)
    edited(index, dtype="float16", embeddings_sha256=sha256((index / "embeddings.npy").read_bytes()))
    assert found(index) == AS_BUILT
    rows[6] = np.inf
    np.save(index / "embeddings.npy", rows)
    assert found(index) == AS_BUILT | {
        "embeddings' SHA-256": (False, "another one than index.json says"),
        "embeddings": (False, "1 of 7 are not finite or not of unit length (sub/3.png)"),
    }


def test_an_older_index_does_not_say_all_of_it(index: Path, images: Path) -> None:
    edited(index, embeddings_sha256=None, images_sha256=None)
    (index / "images.sha256").unlink()
    verification = verify_index(index, images)
    assert found(index, images) == AS_BUILT | {"embeddings' SHA-256": OLDER, "images' SHA-256": OLDER}
    require_verified(verification)


def test_a_damaged_list_of_images_is_one_finding(index: Path, images: Path) -> None:
    file = index / "images.sha256"
    file.write_bytes(file.read_bytes()[:-1])
    assert found(index, images) == AS_BUILT | {
        "images' SHA-256": (
            False,
            f"{file} is not the one that index.json was written for (another SHA-256); copy the index again, or build "
            "it again: `aml-edge index build`.",
        )
    }


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda index: (index / "ids.txt").write_text("a\n" * 7), "ids.txt names an image twice; "),
        (lambda index: (index / "embeddings.npy").write_bytes(b""), "embeddings.npy cannot be read: "),
        (lambda index: (index / "index.json").unlink(), "holds no index"),
    ],
)
def test_what_cannot_be_opened_is_said_as_ever(index: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(index)
    with pytest.raises(TeacherIndexError, match=said):
        verify_index(index)


def test_what_differs_is_required_by_name(index: Path) -> None:
    verification = verify_index(index)
    checks = (*verification.checks, IndexCheck("first", False, ""), IndexCheck("second", False, ""))
    with pytest.raises(TeacherIndexError) as caught:
        require_verified(replace(verification, checks=checks))
    assert str(caught.value) == (
        f"the index {index} is not what was built (first, second), for the reasons above; copy it again, or build it "
        "again: `aml-edge index build`."
    )


def test_images_are_a_folder(index: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        verify_index(index, tmp_path / "nowhere")
    assert str(caught.value) == (
        f"`images` is {tmp_path / 'nowhere'}, which is no folder; give the one that the index was built from."
    )
