"""The student that a file was made from, found by its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aml_edge.artifact import Artifact, Manifest
from aml_edge.benchmarks.reference import find_student, require_student_of
from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint, save_student
from aml_edge.networks.released import untrained_student
from aml_edge.networks.student import StudentSpec


def test_a_run_with_the_same_weights_is_found_whatever_it_is_called(
    checkpoint: StudentCheckpoint, manifest: Manifest, tmp_path: Path
) -> None:
    save_student(untrained_student(StudentSpec("mobilenetv2_035", 3), seed=7), tmp_path / "a")
    save_student(replace(checkpoint, name="renamed"), tmp_path / "b")
    found = find_student(manifest, tmp_path)
    assert found is not None
    assert (found.name, found.weights_sha256) == ("renamed", checkpoint.weights_sha256)


def test_no_run_no_student(manifest: Manifest, tmp_path: Path) -> None:
    assert find_student(manifest, tmp_path / "runs") is None


def test_an_untrained_student_is_made_again(manifest: Manifest, tmp_path: Path) -> None:
    untrained = untrained_student(StudentSpec("mobilenetv2_035", 5))
    wanted = replace(manifest, space=untrained.space, weights_sha256=untrained.weights_sha256)
    found = find_student(wanted, tmp_path)
    assert found is not None and not found.trained
    pairs = zip(found.student.state_dict().values(), untrained.student.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_an_untrained_student_of_another_seed_is_not_taken_for_it(manifest: Manifest, tmp_path: Path) -> None:
    other = untrained_student(StudentSpec("mobilenetv2_035", 5), seed=1)
    wanted = replace(manifest, space=other.space, weights_sha256=other.weights_sha256)
    assert find_student(wanted, tmp_path) is None


def test_an_untrained_student_of_a_backbone_that_nobody_knows_is_not_found(manifest: Manifest, tmp_path: Path) -> None:
    untrained = untrained_student(StudentSpec("mobilenetv2_035", 5))
    wanted = replace(manifest, space=untrained.space, backbone="mobilenet_v7")
    assert find_student(wanted, tmp_path) is None


def test_a_file_is_timed_beside_its_own_student_only(checkpoint: StudentCheckpoint, manifest: Manifest) -> None:
    mine = Artifact(Path("mine.onnx"), manifest)
    other = Artifact(Path("other.onnx"), replace(manifest, student="another", weights_sha256="89abcdef" * 8))
    require_student_of([mine, mine], checkpoint)
    require_student_of([], checkpoint)
    with pytest.raises(UsageError) as refused:
        require_student_of([mine, other], checkpoint)
    assert str(refused.value) == (
        f"`student` is 'toy' (weights {checkpoint.weights_sha256[:8]}), but other.onnx was made from 'another' "
        "(weights 89abcdef); a file is timed beside its own student: name that one, or none."
    )
