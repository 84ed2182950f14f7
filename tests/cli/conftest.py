"""The real command line in this process, and small things for it to work on."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.cli import app as app_module
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import SyntheticReport, write_synthetic
from aml_edge.exporters.export import export_student
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, save_student
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.runtimes.checkpoint_embedders import student_embedder
from aml_edge.space import EmbeddingSpace
from aml_edge.training.settings import TrainingSettings
from aml_edge.training.starting_network import starting_network

SIDE = 40
TOY_SPACE = EmbeddingSpace("toy", "0" * 64, 3)
TINY_SPEC = SyntheticSpec(
    image_side_px=64, landmarks_train=2, landmarks_val=1, views_train=3, landmarks_test=2, distractors=4
)


@dataclass(frozen=True)
class Ended:
    """How a command line ended, and what it said."""

    code: int
    out: str
    err: str


CommandLine = Callable[..., Ended]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def unknown_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, and nothing that says how wide one would be; pytest-xdist gives its processes a width."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Returns a function that runs `aml-edge` with arguments."""
    monkeypatch.setattr(app_module, "_debug", False)  # and set back after the test

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["aml-edge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app_module.main()
        out, err = capsys.readouterr()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Ended(code, out, err)

    return run


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> SyntheticReport:
    """A synthetic set of two landmarks, which no test may change."""
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "data", TINY_SPEC)


@pytest.fixture(scope="session")
def tiny_teacher() -> TeacherCheckpoint:
    return TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval(), "tiny", Preprocessing(64))


@pytest.fixture(scope="session")
def toy_student() -> StudentCheckpoint:
    """A student that claims the space of the toy file."""
    network = Student(StudentSpec("mobilenetv2_035", 3), seed=2).eval()
    return StudentCheckpoint(network, "toy", TOY_SPACE, Preprocessing(64), trained=True)


@pytest.fixture(scope="session")
def toy_file(write_channel_means: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file whose embedding has a closed form: the channel means plus one, L2-normalised."""
    path = tmp_path_factory.mktemp("files") / "toy.onnx"
    write_channel_means(path, SIDE)
    manifest = Manifest(
        space=TOY_SPACE,
        preprocessing=Preprocessing(SIDE, Fit.SQUASH),
        student="toy",
        backbone="none",
        weights_sha256="1" * 64,
        format=Format.ONNX,
        precision=Precision.FP32,
        target="opset 20",
    )
    write_manifest(Artifact(path, manifest))
    return path


EXPORT_SIDE = 64
QUERIES, DATABASE = 6, 24


@pytest.fixture(scope="session")
def lively_student() -> StudentCheckpoint:
    """An ImageNet EfficientNet-Lite0 with a random adaptor: its embeddings of different images differ."""
    space = EmbeddingSpace("toy teacher", "a" * 64, 32)
    start = starting_network(TrainingSettings(image_side_px=EXPORT_SIDE), space)
    assert isinstance(start, StudentCheckpoint)
    return replace(start, name="mine", trained=True)


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the revisited layout: smooth blobs of colour, queries that show one of them a little brighter."""
    root = tmp_path_factory.mktemp("toy data")
    (root / "jpg").mkdir()
    generator = np.random.default_rng(0)
    for number in range(DATABASE):
        colours = Image.fromarray(generator.integers(0, 200, (6, 8, 3), dtype=np.uint8))
        whole = colours.resize((64, 48), Image.Resampling.BICUBIC)
        whole.save(root / "jpg" / f"view_{number:02}.jpg", quality=95)
        if number < QUERIES:
            brighter = Image.fromarray(np.minimum(255, np.asarray(whole, np.int64) + 20).astype(np.uint8))
            brighter.save(root / "jpg" / f"query_{number}.jpg", quality=95)
    labels = [{"easy": [number], "hard": [number + 6], "junk": [number + 12]} for number in range(QUERIES)]
    content = {
        "imlist": [f"view_{number:02}" for number in range(DATABASE)],
        "qimlist": [f"query_{number}" for number in range(QUERIES)],
        "gnd": [{"bbx": [0.0, 0.0, 64.0, 48.0], **label} for label in labels],
    }
    (root / "gnd_toy.pkl").write_bytes(pickle.dumps(content))
    return root


@pytest.fixture(scope="session")
def blob_index(lively_student: StudentCheckpoint, blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of a teacher that the lively student equals, at its file's pixels."""
    teacher = student_embedder(lively_student, lively_student.preprocessing.fitted(Fit.LETTERBOX, EXPORT_SIDE))
    return build_index(teacher, image_source(blobs), tmp_path_factory.mktemp("indexes") / "toy").path


@pytest.fixture(scope="session")
def lively_file(lively_student: StudentCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lively student's ONNX file, never verified."""
    spec = ExportSpec(Format.ONNX, Precision.FP32, EXPORT_SIDE)
    return export_student(lively_student, spec, tmp_path_factory.mktemp("artifacts")).path


@pytest.fixture
def workplace(lively_student: StudentCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the lively student's run."""
    save_student(lively_student, tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def artifact(workplace: Path, lively_file: Path) -> Artifact:
    """A copy of the lively student's file, since verifying writes into it."""
    return read_artifact(Path(shutil.copy(lively_file, workplace / "mine.onnx")))


@pytest.fixture(scope="session")
def broken_model(lively_file: Path) -> bytes:
    """A file that says the same of itself, with the adaptor's rows in another order."""
    import onnx

    model = onnx.load(lively_file)
    (adaptor,) = (weight for weight in model.graph.initializer if list(weight.dims) == [32, 1280, 1, 1])
    rows = np.ascontiguousarray(onnx.numpy_helper.to_array(adaptor)[::-1])
    adaptor.CopyFrom(onnx.numpy_helper.from_array(rows, adaptor.name))
    model_bytes: bytes = model.SerializeToString()
    return model_bytes


@pytest.fixture
def broken_artifact(workplace: Path, broken_model: bytes) -> Artifact:
    """The broken file."""
    (workplace / "broken.onnx").write_bytes(broken_model)
    return read_artifact(workplace / "broken.onnx")
