"""What is said of an index that was not embedded here, and what its rows could be instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aml_edge.errors import CheckpointError, SpaceMismatchError, UsageError
from aml_edge.index.declared_space import OTHER_SIDES_PX, DeclaredSpace, named_space, other_spaces, teacher_space
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import WhiteningCheckpoint, save_whitening
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.scales import PUBLISHED_SCALES, SINGLE_SCALE
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("team", "a" * 64, 6)
SHOWN = Preprocessing(362)


def whitening(dimension: int, seed: int = 0) -> Whitening:
    generator = torch.Generator().manual_seed(seed)
    return Whitening(torch.rand(6, generator=generator), torch.rand(dimension, 6, generator=generator))


def saved(layer: Whitening, path: Path, space: EmbeddingSpace = SPACE) -> Path:
    record = WhiteningRecord(
        whitening_sha256=layer.sha256,
        kind=WhiteningKind.PCA,
        network=space.teacher,
        weights_sha256=space.weights_sha256,
        space=space,
        dataset="toy",
        rows=9,
        pairs=None,
        regularisation=0.0,
    )
    save_whitening(WhiteningCheckpoint(layer, record), path)
    return path


def test_a_name_is_enough_without_whitening() -> None:
    declared = named_space(SPACE, SHOWN, PUBLISHED_SCALES, None)
    assert (declared.space, declared.preprocessing, declared.scales) == (SPACE, SHOWN, PUBLISHED_SCALES)
    assert declared.whitening is None


def test_a_whitening_s_file_gives_the_space_its_dimension(tmp_path: Path) -> None:
    layer = whitening(4)
    file = saved(layer, tmp_path / "w.safetensors")
    declared = named_space(replace(SPACE, dimension=4), SHOWN, SINGLE_SCALE, file)
    assert declared.space == replace(SPACE, dimension=4, whitening_sha256=layer.sha256)
    assert declared.whitening is not None
    assert declared.whitening.sha256 == layer.sha256


def test_a_published_whitening_s_file_too(tmp_path: Path) -> None:
    mean, projection = np.ones((6, 1)), np.eye(4, 6)
    torch.save({"m": mean, "P": projection}, tmp_path / "w.pth")
    declared = named_space(replace(SPACE, dimension=4), SHOWN, SINGLE_SCALE, tmp_path / "w.pth")
    assert declared.space.dimension == 4
    assert declared.space.whitening_sha256 == Whitening(torch.ones(6), torch.eye(4, 6)).sha256


def test_whitenings_of_others_and_other_files_are_refused(tmp_path: Path) -> None:
    strange = saved(whitening(4), tmp_path / "w.safetensors", replace(SPACE, teacher="other"))
    with pytest.raises(SpaceMismatchError, match=r"what the whitening .* follows lives in other .*teacher 'team'"):
        named_space(SPACE, SHOWN, SINGLE_SCALE, strange)
    with pytest.raises(UsageError) as missing:
        named_space(SPACE, SHOWN, SINGLE_SCALE, tmp_path / "no")
    assert str(missing.value) == (
        f"`whitening` is '{tmp_path / 'no'}'; without the teacher at hand it must be a whitening's file."
    )
    (tmp_path / "text").write_text("no whitening")
    with pytest.raises(CheckpointError, match="text is no whitening's file"):
        named_space(SPACE, SHOWN, SINGLE_SCALE, tmp_path / "text")


def test_a_space_has_its_own_whitening() -> None:
    with pytest.raises(UsageError, match="`whitening` is not the one that the space names; give the one of its rows"):
        DeclaredSpace(SPACE, SHOWN, whitening=whitening(6))


def test_others_differ_in_one_thing_each() -> None:
    layers = {"square": whitening(6), "narrow": whitening(4, 1)}
    network = Teacher(TeacherSpec("mobilenetv2_035", whitening_dimension=6), seed=1).eval()
    teacher = TeacherCheckpoint(network, "team", SHOWN, layers)
    declared = teacher_space(teacher, SHOWN, SINGLE_SCALE, layers["square"])
    assert declared.space == teacher.space(layers["square"])
    others = {one.difference: one.declared for one in other_spaces(declared, teacher)}
    assert set(others) == {
        "without --whitening",  # of the same dimension, as the narrow one is not
        "--scales 1,0.7071,0.5",
        *(f"--image-size {side}" for side in OTHER_SIDES_PX if side != 362),
        "--fit squash",
        "--fit letterbox",
        "--fit center-crop",
    }
    assert others["without --whitening"].space == teacher.space()
    assert others["--scales 1,0.7071,0.5"].scales == PUBLISHED_SCALES
    assert others["--image-size 512"].preprocessing == replace(SHOWN, image_side_px=512)
    assert others["--fit squash"].preprocessing == replace(SHOWN, fit=Fit.SQUASH)
    unlike = [(one.space, one.preprocessing, one.scales) for one in others.values()]
    assert len(set(unlike)) == len(unlike)
    assert (declared.space, declared.preprocessing, declared.scales) not in unlike
