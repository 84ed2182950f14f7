"""Whitenings on disk: what comes back, whom it may follow, and what is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from aml_edge.errors import CheckpointError, SpaceMismatchError, UsageError
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import (
    WhiteningCheckpoint,
    encode_whitening,
    load_student_whitening,
    load_teacher_whitening,
    load_whitening,
    save_whitening,
)
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("a teacher", "a" * 64, 3)
WHITENING = Whitening(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]))
RECORD = WhiteningRecord(
    whitening_sha256=WHITENING.sha256,
    kind=WhiteningKind.LEARNED,
    network="a teacher",
    weights_sha256="a" * 64,
    space=SPACE,
    dataset="stamps",
    rows=40,
    pairs=20,
    regularisation=1e-10,
)
OF_STUDENT = replace(RECORD, network="mine", weights_sha256="b" * 64)
Rewritten = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_whitening(WhiteningCheckpoint(WHITENING, RECORD), tmp_path / "whitening.safetensors")
    return tmp_path / "whitening.safetensors"


@pytest.fixture
def rewritten(saved: Path, tmp_path: Path) -> Rewritten:
    """Returns a function that writes the file again with another record or other tensors."""

    def rewrite(record: object = None, tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
        text = json.dumps(record if record is not None else record_of(saved) | changes)
        save_file(load_file(saved) if tensors is None else tensors, tmp_path / "other", metadata={"aml_edge": text})
        return tmp_path / "other"

    return rewrite


def record_of(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        record: dict[str, Any] = json.loads(opened.metadata()["aml_edge"])
    return record


@pytest.mark.parametrize(
    "record", [RECORD, OF_STUDENT, replace(RECORD, kind=WhiteningKind.PCA, pairs=None, regularisation=0.0)]
)
def test_a_whitening_comes_back_as_it_was(tmp_path: Path, record: WhiteningRecord) -> None:
    save_whitening(WhiteningCheckpoint(WHITENING, record), tmp_path / "w")
    loaded = load_whitening(tmp_path / "w")
    assert loaded.record == record
    assert torch.equal(loaded.whitening.mean, WHITENING.mean)
    assert torch.equal(loaded.whitening.projection, WHITENING.projection)
    assert loaded.space == EmbeddingSpace("a teacher", "a" * 64, 2, WHITENING.sha256)


def test_the_record_says_it_all(saved: Path) -> None:
    assert record_of(saved) == {
        "version": 1,
        "whitening_sha256": WHITENING.sha256,
        "kind": "learned",
        "network": "a teacher",
        "weights_sha256": "a" * 64,
        "space": SPACE.to_json() | {"fingerprint": SPACE.fingerprint},
        "dataset": "stamps",
        "rows": 40,
        "pairs": 20,
        "regularisation": 1e-10,
    }


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_beside(saved: Path) -> None:
    before = saved.read_bytes()
    save_whitening(WhiteningCheckpoint(WHITENING, RECORD), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_an_index_keeps_the_bytes_that_it_had() -> None:
    """m and P, without any record: indexes built before are read by the same reader."""
    assert encode_whitening(WHITENING) == save({"m": WHITENING.mean, "P": WHITENING.projection})


def test_a_checkpoint_takes_the_record_of_its_whitening_only() -> None:
    with pytest.raises(UsageError) as refusal:
        WhiteningCheckpoint(WHITENING, replace(RECORD, space=replace(SPACE, dimension=4)))
    assert str(refusal.value) == "`whitening` takes 3 values, but its record says 4; give the right record."
    with pytest.raises(UsageError) as refusal:
        WhiteningCheckpoint(WHITENING, replace(RECORD, whitening_sha256="c" * 64))
    assert str(refusal.value) == "`whitening` has another SHA-256 than its record says; give the right record."


def test_it_follows_its_teacher(saved: Path) -> None:
    assert load_teacher_whitening(saved, SPACE, name="a teacher").sha256 == WHITENING.sha256


def test_it_is_refused_after_another_teacher_and_both_are_named(saved: Path) -> None:
    other = EmbeddingSpace("another", "c" * 64, 3)
    with pytest.raises(SpaceMismatchError) as refusal:
        load_teacher_whitening(saved, other, name="another")
    assert str(refusal.value) == (
        f"what the whitening {saved} follows lives in a teacher (aaaaaaaa), 3-D, no whitening, but teacher 'another' "
        "in another (cccccccc), 3-D, no whitening (different teacher, weights_sha256); compare only what was made for "
        "the same teacher."
    )


def test_a_student_s_is_refused_after_its_teacher(tmp_path: Path) -> None:
    """Both live in one space, but their embeddings are distributed otherwise."""
    save_whitening(WhiteningCheckpoint(WHITENING, OF_STUDENT), tmp_path / "w")
    with pytest.raises(SpaceMismatchError) as refusal:
        load_teacher_whitening(tmp_path / "w", SPACE, name="a teacher")
    assert str(refusal.value) == (
        f"the whitening {tmp_path / 'w'} was learned for student 'mine' (bbbbbbbb), not for teacher 'a teacher' "
        "(aaaaaaaa); learn one from that network's own embeddings: `aml-edge whitening`."
    )


def test_a_student_s_follows_that_student_only(tmp_path: Path, saved: Path) -> None:
    save_whitening(WhiteningCheckpoint(WHITENING, OF_STUDENT), tmp_path / "w")
    assert load_student_whitening(tmp_path / "w", "b" * 64, name="mine").sha256 == WHITENING.sha256
    with pytest.raises(SpaceMismatchError) as refusal:
        load_student_whitening(saved, "b" * 64, name="mine")
    assert str(refusal.value) == (
        f"the whitening {saved} was learned for teacher 'a teacher' (aaaaaaaa), not for student 'mine' (bbbbbbbb); "
        "learn one from that network's own embeddings: `aml-edge whitening`."
    )
    with pytest.raises(SpaceMismatchError, match=r"for student 'mine' \(bbbbbbbb\), not for student 'later' \(dddddd"):
        load_student_whitening(tmp_path / "w", "d" * 64, name="later")


@pytest.mark.parametrize("size", [0, 1, 8, 100, -1])
def test_a_cut_file_is_refused(saved: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "cut").write_bytes(saved.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"cut is no whitening's file, or a damaged one: .*; learn it again"):
        load_whitening(tmp_path / "cut")


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(CheckpointError, match="is no whitening's file, or a damaged one"):
            load_whitening(path)


def test_one_flipped_bit_is_refused(saved: Path) -> None:
    damaged = bytearray(saved.read_bytes())
    damaged[-1] ^= 1
    saved.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="`whitening` has another SHA-256 than its record says"):
        load_whitening(saved)


def test_random_damage_never_raises_anything_else(saved: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    whole = saved.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            damaged[place] = generator.integers(0, 256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            loaded = load_whitening(tmp_path / "damaged")
        except CheckpointError:
            continue
        # A letter of a name, or a digit of a count.
        assert loaded.whitening.sha256 == WHITENING.sha256
        assert loaded.record.space == SPACE


def test_an_index_s_file_does_not_say_whom_it_follows(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(encode_whitening(WHITENING))
    with pytest.raises(CheckpointError) as refusal:
        load_whitening(tmp_path / "w")
    assert str(refusal.value) == (
        f"{tmp_path / 'w'} does not say whose embeddings its whitening follows; learn it again: `aml-edge whitening`."
    )


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"m": torch.zeros(3)}, "it holds m, not m and P"),
        ({"m": torch.zeros(3), "P": torch.zeros(2, 3), "x": torch.zeros(1)}, "it holds P, m, x, not m and P"),
        ({"m": torch.zeros(3).double(), "P": torch.zeros(2, 3).double()}, "its m and P are not float32"),
        ({"m": torch.zeros(3), "P": torch.zeros(2, 3).half()}, "its m and P are not float32"),
        ({"m": torch.zeros(3, 1), "P": torch.zeros(2, 3)}, "`mean` is (3, 1) and `projection` (2, 3)"),
        ({"m": torch.zeros(2), "P": torch.zeros(2, 3)}, "`mean` is (2,) and `projection` (2, 3)"),
        ({"m": torch.zeros(3), "P": torch.full((2, 3), torch.nan)}, "a whitening holds NaN or Inf"),
    ],
)
def test_other_tensors_are_refused(rewritten: Rewritten, tensors: dict[str, torch.Tensor], reason: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        load_whitening(rewritten(tensors=tensors))
    assert f"other is no whitening's file, or a damaged one: {reason}" in str(refusal.value)


def test_tensors_of_another_dimension_than_the_record_says_are_refused(rewritten: Rewritten) -> None:
    with pytest.raises(CheckpointError, match="`whitening` takes 4 values, but its record says 3"):
        load_whitening(rewritten(tensors={"m": torch.zeros(4), "P": torch.zeros(2, 4)}))


def test_tensors_without_any_value_are_refused(rewritten: Rewritten) -> None:
    with pytest.raises(CheckpointError, match="`whitening` takes 0 values, but its record says 3"):
        load_whitening(rewritten(tensors={"m": torch.zeros(0), "P": torch.zeros(2, 0)}))


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"m": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="w is no whitening's file, or a damaged one"):
        load_whitening(tmp_path / "w")


def test_a_student_s_file_is_no_whitening(tmp_path: Path) -> None:
    save_file({f"backbone.{n}": torch.zeros(1) for n in range(9)}, tmp_path / "s", metadata={"aml_edge": "{}"})
    with pytest.raises(CheckpointError, match=r"it holds backbone\.0, .*, backbone\.4, not m and P"):
        load_whitening(tmp_path / "s")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "its version is 2, this aml-edge reads 1"),
        ({"version": None}, "its version is None"),
        ({"more": 1}, "its fields are ["),
        ({"kind": "zca"}, "'zca' is not a valid WhiteningKind"),
        ({"kind": None}, "None is not a valid WhiteningKind"),
        ({"kind": "pca"}, "a whitening of kind 'pca' says 40 rows and 20 pairs"),
        ({"pairs": None}, "a whitening of kind 'learned' says 40 rows and None pairs"),
        ({"pairs": 0}, "a field has the wrong type"),
        ({"pairs": True}, "a field has the wrong type"),
        ({"rows": -1}, "a field has the wrong type"),
        ({"rows": 40.0}, "a field has the wrong type"),
        ({"regularisation": 1}, "a field has the wrong type"),
        ({"regularisation": "1e-10"}, "a field has the wrong type"),
        ({"regularisation": float("nan")}, "`regularisation` is nan"),
        ({"regularisation": float("inf")}, "`regularisation` is inf"),
        ({"regularisation": -1.0}, "`regularisation` is -1.0"),
        ({"network": ""}, "`network` is ''"),
        ({"network": 5}, "a field has the wrong type"),
        ({"network": "\x1b[2J"}, r"`network` is '\x1b[2J'"),
        ({"dataset": "a\nb"}, r"`dataset` is 'a\nb'"),
        ({"dataset": "\ud800"}, r"`dataset` is '\ud800'"),
        ({"weights_sha256": "b" * 63}, "`weights_sha256` is 'bbb"),
        ({"whitening_sha256": "B" * 64}, "`whitening_sha256` is 'BBB"),
        ({"whitening_sha256": "b" * 64}, "`whitening` has another SHA-256 than its record says"),
        ({"space": 1}, "has a record that cannot be read"),
        ({"space": SPACE.to_json()}, "'fingerprint'"),
        ({"space": SPACE.to_json() | {"fingerprint": "0" * 64}}, "the fingerprint of its space does not match"),
        ({"space": SPACE.to_json() | {"fingerprint": "", "more": 1}}, "a space has the fields"),
        ({"space": SPACE.to_json() | {"fingerprint": "", "teacher": "\ud800"}}, "surrogates not allowed"),
    ],
)
def test_a_record_that_cannot_be_is_refused(rewritten: Rewritten, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        load_whitening(rewritten(**changes))
    assert "other has a record that cannot be read: " in str(refusal.value)
    assert reason in str(refusal.value)
    assert str(refusal.value).endswith("; learn it again: `aml-edge whitening`.")


def test_a_whitening_of_whitened_embeddings_is_refused(rewritten: Rewritten) -> None:
    whitened = replace(SPACE, whitening_sha256="d" * 64)
    with pytest.raises(CheckpointError, match="a whitening follows embeddings that have none: learn it on an index"):
        load_whitening(rewritten(space=whitened.to_json() | {"fingerprint": whitened.fingerprint}))


@pytest.mark.parametrize("record", [[], "text", 3, {}, {"version": 1}])
def test_a_record_of_another_shape_is_refused(rewritten: Rewritten, record: object) -> None:
    with pytest.raises(CheckpointError, match="other has a record that cannot be read: "):
        load_whitening(rewritten(record))


def test_a_record_of_endless_depth_is_refused(saved: Path, tmp_path: Path) -> None:
    save_file(load_file(saved), tmp_path / "deep", metadata={"aml_edge": "[" * 100_000})
    with pytest.raises(CheckpointError, match="deep has a record that cannot be read"):
        load_whitening(tmp_path / "deep")
