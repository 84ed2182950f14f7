"""Students and teachers on disk: what comes back, and what is refused."""

from __future__ import annotations

import hashlib
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
from torch import nn

from aml_edge.errors import CheckpointError, UnsafePickleError, UsageError
from aml_edge.networks.checkpoints import (
    STUDENT_FILE,
    StudentCheckpoint,
    TeacherCheckpoint,
    load_student,
    load_teacher,
    save_student,
    save_teacher,
    weights_sha256,
)
from aml_edge.networks.recorded_weights import recorded_weights_sha256
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

BACKBONE = "mobilenetv2_035"
DIMENSION = 24
SPACE = EmbeddingSpace("a teacher", "a" * 64, DIMENSION)
PREPROCESSING = Preprocessing(96, Fit.NATIVE, (0.5, 0.25, 0.125), (0.5, 0.5, 0.25))


@pytest.fixture(scope="session")
def checkpoint() -> StudentCheckpoint:
    """A small student whose batch normalisations have seen something."""
    student = Student(StudentSpec(BACKBONE, DIMENSION), seed=5).eval()
    generator = torch.Generator().manual_seed(0)
    for norm in (module for module in student.modules() if isinstance(module, nn.BatchNorm2d)):
        assert norm.running_mean is not None and norm.num_batches_tracked is not None
        norm.running_mean.normal_(0.0, 0.1, generator=generator)
        norm.num_batches_tracked.fill_(7)
    return StudentCheckpoint(student, "ours", SPACE, PREPROCESSING, trained=True)


@pytest.fixture(scope="session")
def saved(checkpoint: StudentCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of that student; tests read it only."""
    folder = tmp_path_factory.mktemp("run")
    save_student(checkpoint, folder)
    return folder / STUDENT_FILE


def test_others_may_read_what_they_may_read_of_other_files(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


Rewritten = Callable[..., Path]


@pytest.fixture
def rewritten(saved: Path, tmp_path: Path) -> Rewritten:
    """Returns a function that writes the file again with another record or other weights."""

    def rewrite(record: object = None, weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
        text = json.dumps(record if record is not None else record_of(saved) | changes)
        save_file(weights or load_file(saved), tmp_path / "other.safetensors", metadata={"aml_edge": text})
        return tmp_path / "other.safetensors"

    return rewrite


def record_of(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        record: dict[str, Any] = json.loads(opened.metadata()["aml_edge"])
    return record


def test_a_student_comes_back_as_it_was(checkpoint: StudentCheckpoint, saved: Path) -> None:
    loaded = load_student(saved)
    assert (loaded.name, loaded.space, loaded.preprocessing, loaded.trained) == ("ours", SPACE, PREPROCESSING, True)
    assert loaded.student.spec == StudentSpec(BACKBONE, DIMENSION)
    assert not any(module.training for module in loaded.student.modules())
    before, after = checkpoint.student.state_dict(), loaded.student.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(checkpoint.student(images), loaded.student(images))


def test_a_folder_stands_for_the_student_in_it(saved: Path) -> None:
    assert load_student(saved.parent).weights_sha256 == load_student(saved).weights_sha256


def test_a_file_is_recognised_by_content_not_by_name(saved: Path, tmp_path: Path) -> None:
    disguised = tmp_path / "student.pth.tar"
    disguised.write_bytes(saved.read_bytes())
    assert load_student(disguised).name == "ours"


def test_the_record_beside_is_the_one_inside(saved: Path) -> None:
    assert json.loads((saved.parent / "student.json").read_text(encoding="utf-8")) == record_of(saved)


def test_an_untrained_student_stays_one(checkpoint: StudentCheckpoint, tmp_path: Path) -> None:
    save_student(replace(checkpoint, trained=False), tmp_path)
    assert load_student(tmp_path).trained is False


def test_saving_leaves_other_files_alone_and_replaces_its_own(checkpoint: StudentCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    save_student(checkpoint, tmp_path)
    save_student(replace(checkpoint, name="later"), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["settings.json", "student.json", STUDENT_FILE]
    assert load_student(tmp_path).name == "later"


def test_saving_twice_gives_the_same_bytes(checkpoint: StudentCheckpoint, saved: Path, tmp_path: Path) -> None:
    save_student(checkpoint, tmp_path)
    assert (tmp_path / STUDENT_FILE).read_bytes() == saved.read_bytes()


def test_weights_sha256_is_that_of_the_documented_bytes() -> None:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0]]))
        layer.bias.copy_(torch.tensor([0.5]))
    written = b"bias torch.float32 (1,)\n" + struct.pack("<f", 0.5)
    written += b"weight torch.float32 (1, 2)\n" + struct.pack("<2f", 1.0, -2.0)
    assert weights_sha256(layer) == hashlib.sha256(written).hexdigest()


def test_weights_sha256_is_the_same_whatever_file_they_came_from(
    checkpoint: StudentCheckpoint, saved: Path, rewritten: Rewritten, tmp_path: Path
) -> None:
    uncounted = {key: value for key, value in load_file(saved).items() if not key.endswith("num_batches_tracked")}
    save_file(uncounted, tmp_path / "older.safetensors", metadata={"aml_edge": json.dumps(record_of(saved))})
    elsewhere = load_student(tmp_path / "older.safetensors")
    renamed = load_student(rewritten(name="another name", trained=False))
    assert {checkpoint.weights_sha256, elsewhere.weights_sha256, renamed.weights_sha256} == {
        record_of(saved)["weights_sha256"]
    }


def test_weights_sha256_sees_one_bit(checkpoint: StudentCheckpoint, saved: Path) -> None:
    changed = load_student(saved).student
    changed.adaptor.weight.detach().numpy().view(np.uint32)[0, 0, 0, 0] ^= 1
    assert weights_sha256(changed) != checkpoint.weights_sha256


def test_weights_sha256_does_not_depend_on_memory_layout(checkpoint: StudentCheckpoint, saved: Path) -> None:
    channels_last = load_student(saved).student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert weights_sha256(channels_last) == checkpoint.weights_sha256


def test_recorded_weights_are_read_without_loading(checkpoint: StudentCheckpoint, saved: Path) -> None:
    assert recorded_weights_sha256(saved) == checkpoint.weights_sha256


@pytest.mark.parametrize(
    "record", [[], "text", 3, {}, {"weights_sha256": None}, {"weights_sha256": 5}, {"weights_sha256": ["a"]}]
)
def test_a_record_without_weights_says_nothing(rewritten: Rewritten, record: object) -> None:
    assert recorded_weights_sha256(rewritten(record)) is None


def test_what_is_no_file_of_ours_says_nothing_of_its_weights(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(saved.read_bytes()[:100])
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign")
    save_file({"weight": torch.zeros(2)}, tmp_path / "hostile", metadata={"aml_edge": "[" * 100_000})
    for name in ("absent", "empty", "short", "foreign", "hostile"):
        assert recorded_weights_sha256(tmp_path / name) is None


def test_an_absent_student_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refusal:
        load_student(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path / STUDENT_FILE} does not exist; give a student's file, or a folder with {STUDENT_FILE} in it."
    )


@pytest.mark.parametrize("size", [0, 1, 7, 8, 200, -1])
def test_a_cut_file_is_refused(saved: Path, tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is no safetensors file, or a damaged one: .*; save"):
        load_student(cut)


@pytest.mark.parametrize("place", [-1, -50_000, -500_000])
def test_one_flipped_bit_among_the_weights_is_refused(saved: Path, tmp_path: Path, place: int) -> None:
    damaged = bytearray(saved.read_bytes())
    damaged[place] ^= 0b0000_0001
    (tmp_path / "flipped").write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"flipped holds other weights than its record says; it is damaged"):
        load_student(tmp_path / "flipped")


def test_random_damage_never_raises_anything_else(saved: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    whole = saved.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for _ in range(30):
        damaged = bytearray(whole)
        for place in generator.integers(0, header, 3):
            damaged[place] = generator.integers(0, 256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            loaded = load_student(tmp_path / "damaged")
        except CheckpointError:
            continue
        # A letter of the student's name, or of nothing that counts.
        assert loaded.weights_sha256 == record_of(saved)["weights_sha256"]


def test_weights_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors holds weights but no aml-edge record; only"):
        load_student(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "its version is 2, this aml-edge reads 1"),
        ({"version": None}, "its version is None"),
        ({"name": 5}, "a field has the wrong type"),
        ({"trained": "yes"}, "a field has the wrong type"),
        ({"backbone": ["mobilenetv2_035"]}, "a field has the wrong type"),
        ({"backbone": "no_such_network"}, "`backbone` is 'no_such_network'"),
        ({"backbone": "hf-hub:someone/something"}, "`backbone` is 'hf-hub:someone/something'"),
        ({"backbone": "vit_tiny_patch16_224"}, "vit_tiny_patch16_224"),
        ({"dimension": DIMENSION + 1}, "its dimension is not that of the weights"),
        ({"dimension": 10**9}, "its dimension is not that of the weights"),
        ({"dimension": float(DIMENSION)}, "its dimension is not that of the weights"),
        ({"space": 1}, "has a record that cannot be read"),
        ({"space": {}}, "'fingerprint'"),
        ({"space": SPACE.to_json()}, "'fingerprint'"),
        ({"space": SPACE.to_json() | {"fingerprint": "0" * 64}}, "its space does not match its fingerprint"),
        ({"space": SPACE.to_json() | {"fingerprint": "", "more": 1}}, "a space has the fields"),
        ({"preprocessing": []}, "its preprocessing is not a JSON object"),
        ({"preprocessing": {}}, "a preprocessing has the fields"),
        ({"preprocessing": PREPROCESSING.to_json() | {"std": [0, 1, 1]}}, "a standard deviation is positive"),
        ({"preprocessing": PREPROCESSING.to_json() | {"mean": [float("nan"), 0, 0]}}, "finite"),
        ({"preprocessing": PREPROCESSING.to_json() | {"std": [float("inf"), 1, 1]}}, "finite"),
        ({"preprocessing": PREPROCESSING.to_json() | {"mean": [10**400, 0, 0]}}, "too large"),
        ({"weights_sha256": "0" * 64}, "holds other weights than its record says; it is damaged, save it again."),
        ({"weights_sha256": None}, "holds other weights than its record says; it is damaged, save it again."),
    ],
)
def test_a_record_that_contradicts_the_file_is_refused(
    rewritten: Rewritten, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(CheckpointError) as refusal:
        load_student(rewritten(**changes))
    assert reason in str(refusal.value)
    assert "other.safetensors" in str(refusal.value)


@pytest.mark.parametrize("record", [[], "text", 3, {}, {"version": 1}])
def test_a_record_of_another_shape_is_refused(rewritten: Rewritten, record: object) -> None:
    with pytest.raises(CheckpointError, match=r"other\.safetensors has a record that cannot be read: .*; save it"):
        load_student(rewritten(record))


def test_a_record_of_endless_depth_is_refused(saved: Path, tmp_path: Path) -> None:
    save_file(load_file(saved), tmp_path / "deep", metadata={"aml_edge": "[" * 100_000})
    with pytest.raises(CheckpointError, match="deep has a record that cannot be read"):
        load_student(tmp_path / "deep")


def test_a_space_of_another_dimension_is_refused(rewritten: Rewritten) -> None:
    wider = EmbeddingSpace("a teacher", "a" * 64, DIMENSION + 1)
    with pytest.raises(CheckpointError, match="its space does not match its fingerprint or its dimension"):
        load_student(rewritten(space=wider.to_json() | {"fingerprint": wider.fingerprint}))


def test_weights_that_do_not_fit_are_refused(saved: Path, rewritten: Rewritten) -> None:
    weights = load_file(saved)
    with pytest.raises(CheckpointError, match=r"does not fit the network: missing 1 \(pool\.p\); left over none"):
        load_student(rewritten(weights={key: value for key, value in weights.items() if key != "pool.p"}))
    with pytest.raises(CheckpointError, match=r"missing none; left over 1 \(head\)"):
        load_student(rewritten(weights=weights | {"head": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"holds NaN or Inf in pool\.p"):
        load_student(rewritten(weights=weights | {"pool.p": torch.full_like(weights["pool.p"], torch.nan)}))
    without = {key: value for key, value in weights.items() if key != "adaptor.weight"}
    with pytest.raises(CheckpointError, match=r"adaptor\.weight"):
        load_student(rewritten(weights=without))


def test_a_published_student_needs_the_space_of_its_teacher(published: Callable[[str], Any]) -> None:
    file = published("mobilenet_v2")
    space = EmbeddingSpace("resnet101-gem", "b" * 64, 32)
    loaded = load_student(file.path, space=space)
    assert (loaded.space, loaded.trained, loaded.name) == (space, True, "a file.bin")
    with torch.inference_mode():
        np.testing.assert_allclose(loaded.student(file.images), file.embeddings, atol=2e-6)  # float32 sums reordered
    alone = load_student(file.path)
    assert alone.space == EmbeddingSpace("mobilenet_v2-gem", alone.weights_sha256, 32)


def test_a_published_student_is_named_for_its_file(published: Callable[[str], Any], tmp_path: Path) -> None:
    path = published("mobilenet_v2").save(tmp_path / "mobilenet_v2-asym-reg.pth.tar")
    assert load_student(path).name == "mobilenet_v2-asym-reg"


def test_a_space_of_another_dimension_than_a_published_student_s_is_refused(published: Callable[[str], Any]) -> None:
    path = published("mobilenet_v2").path
    with pytest.raises(CheckpointError) as refusal:
        load_student(path, space=SPACE)
    assert str(refusal.value) == (
        f"{path} holds a student of 32 dimensions, but its teacher's space is a teacher (aaaaaaaa), 24-D, no "
        "whitening; give the space of the teacher that it was trained for."
    )


def test_a_student_published_and_saved_again_is_the_same(published: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = load_student(published("mobilenet_v2").path, space=EmbeddingSpace("resnet101-gem", "b" * 64, 32))
    save_student(loaded, tmp_path)
    again = load_student(tmp_path)
    assert (again.weights_sha256, again.space, again.preprocessing) == (
        loaded.weights_sha256,
        loaded.space,
        loaded.preprocessing,
    )


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Hostile()}, tmp_path / "hostile.pth")
    for load in (load_student, load_teacher):
        with pytest.raises(UnsafePickleError, match="nothing of the file was run"):
            load(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()


def test_a_teacher_comes_with_its_whitenings(published: Callable[[str], Any], tmp_path: Path) -> None:
    file = published("resnet50")
    generator = np.random.default_rng(0)
    mean, projection = generator.normal(size=(2048, 1)), generator.normal(size=(8, 2048))
    learned = {"retrieval-SfM-120k": {"ss": {"m": torch.from_numpy(mean), "P": torch.from_numpy(projection)}}}
    loaded = load_teacher(file.save(tmp_path / "teacher.pth", meta={"Lw": learned}))
    assert list(loaded.whitenings) == ["retrieval-SfM-120k/ss"]
    with torch.inference_mode():
        np.testing.assert_allclose(loaded.teacher(file.images), file.embeddings, atol=2e-6)  # float32 sums reordered
    whitening = loaded.whitenings["retrieval-SfM-120k/ss"]
    sha256 = weights_sha256(loaded.teacher)
    assert loaded.space() == EmbeddingSpace("resnet50-gem", sha256, 2048)
    assert loaded.space(whitening) == EmbeddingSpace("resnet50-gem", sha256, 8, whitening.sha256)


def test_the_space_of_a_teacher_is_of_its_weights_and_not_of_its_preprocessing() -> None:
    teacher = Teacher(TeacherSpec(BACKBONE)).eval()
    first = TeacherCheckpoint(teacher, "small", Preprocessing())
    second = TeacherCheckpoint(teacher, "small", Preprocessing(image_side_px=64))
    assert first.space() == second.space()
    whitening = Whitening(torch.zeros(teacher.dimension), torch.eye(4, teacher.dimension))
    assert first.space(whitening).fingerprint != first.space().fingerprint


def test_an_absent_teacher_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth does not exist; give a teacher's file, or a folder with"):
        load_teacher(tmp_path / "none.pth")


def test_a_student_is_no_teacher(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{STUDENT_FILE} holds a student, not a teacher"):
        load_teacher(saved)


@pytest.fixture
def own_teacher() -> TeacherCheckpoint:
    """A teacher of ours, with every part that one may have."""
    teacher = Teacher(TeacherSpec(BACKBONE, local_whitening=True, whitening_dimension=8), seed=3).eval()
    return TeacherCheckpoint(teacher, "mine", PREPROCESSING)


def test_a_teacher_of_ours_comes_back_as_it_was(own_teacher: TeacherCheckpoint, tmp_path: Path) -> None:
    save_teacher(own_teacher, tmp_path)
    for path in (tmp_path, tmp_path / "teacher.safetensors"):
        loaded = load_teacher(path)
        assert (loaded.name, loaded.preprocessing, loaded.whitenings) == ("mine", PREPROCESSING, {})
        assert loaded.teacher.spec == own_teacher.teacher.spec
        assert not loaded.teacher.training
        assert loaded.space() == own_teacher.space()
    record = json.loads((tmp_path / "teacher.json").read_text())
    assert record == record_of(tmp_path / "teacher.safetensors")
    assert record["weights_sha256"] == own_teacher.space().weights_sha256


def test_a_teacher_is_no_student(own_teacher: TeacherCheckpoint, tmp_path: Path) -> None:
    save_teacher(own_teacher, tmp_path)
    with pytest.raises(CheckpointError, match=r"teacher\.safetensors holds a teacher, not a student; name it where"):
        load_student(tmp_path / "teacher.safetensors")


def test_whitenings_have_no_place_in_a_teachers_file(own_teacher: TeacherCheckpoint, tmp_path: Path) -> None:
    whitening = Whitening(torch.zeros(8), torch.eye(8))
    with pytest.raises(UsageError, match="teacher 'mine' has whitenings, which are files of their own"):
        save_teacher(replace(own_teacher, whitenings={"ss": whitening}), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "a field has the wrong type"),
        ({"teacher": []}, "its teacher is not a JSON object"),
        ({"teacher": {"backbone": BACKBONE}}, "local_whitening"),
        ({"teacher": {"backbone": BACKBONE, "local_whitening": 1, "whitening_dimension": 8}}, "wrong type"),
        ({"teacher": {"backbone": BACKBONE, "local_whitening": True, "whitening_dimension": 10**9}}, "its dimension"),
        ({"teacher": {"backbone": "nothing", "local_whitening": True, "whitening_dimension": 8}}, "`backbone` is"),
        ({"weights_sha256": "0" * 64}, "holds other weights than its record says"),
    ],
)
def test_a_teachers_record_is_not_trusted(
    own_teacher: TeacherCheckpoint, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    save_teacher(own_teacher, tmp_path)
    file = tmp_path / "teacher.safetensors"
    record = record_of(file) | changes
    file.write_bytes(save(load_file(file), metadata={"aml_edge": json.dumps(record)}))
    with pytest.raises(CheckpointError, match=message):
        load_teacher(file)
