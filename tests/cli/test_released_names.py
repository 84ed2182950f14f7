"""`aml:NAME` on the real command line: what is said while a file is fetched, and how it ends where it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.downloading.downloads import OFFLINE_VARIABLE
from aml_edge.embedder import FakeEmbedder
from aml_edge.index.building import build_index
from aml_edge.networks import released_files
from aml_edge.networks.released_cache import CACHE_VARIABLE
from aml_edge.networks.torchvision_guard import import_timm
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

CommandLine = Callable[..., Any]
DIMENSION = 8
FILE = "mobilenet_v2_gem_reg_vgg16.pth.tar"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A student's file in the published form, with random weights and few dimensions."""
    import_timm()
    import torchvision

    torch.manual_seed(0)
    trunk = torchvision.models.mobilenet_v2().features.state_dict()
    state = {f"features.0.{key}": value for key, value in trunk.items()}
    state |= {"features.1.weight": torch.randn(DIMENSION, 1280, 1, 1), "pool.p": torch.tensor([3.0])}
    path = tmp_path_factory.mktemp("student") / "file"
    torch.save({"meta": {"pooling": "gem"}, "state_dict": state}, path)
    return path.read_bytes()


@pytest.fixture
def cache(content: bytes, faulty_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that is not there yet, and a server that has the student."""
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(released_files, "STUDENTS_URL", f"{faulty_server.url}/aml")
    faulty_server.files[f"/aml/{FILE}"] = content
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def indexes(synthetic: SyntheticReport, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function that gives the index of a teacher of that name."""
    folder = tmp_path_factory.mktemp("indexes")

    def index_of(teacher: str) -> Path:
        path = folder / teacher
        if not path.exists():
            space = EmbeddingSpace(teacher, "c" * 64, DIMENSION)
            build_index(FakeEmbedder(space, Preprocessing(64)), image_source(synthetic.test_root), path)
        return path

    return index_of


def query_of(synthetic: SyntheticReport) -> Path:
    return sorted((synthetic.test_root / "jpg").iterdir())[0]


def test_a_search_fetches_the_student_that_it_names_once(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    indexes: Callable[[str], Path],
    cache: Path,
    faulty_server: Any,
    content: bytes,
) -> None:
    arguments = (
        "search",
        query_of(synthetic),
        "--index",
        indexes("vgg16-gem"),
        "--student",
        "aml:mobilenet-v2-reg-vgg16",
    )
    first, again = command_line(*arguments), command_line(*arguments)
    assert (first.code, first.err) == (0, "")
    trusted, *said = first.out.splitlines()[:5]
    assert "is taken on trust: gem:vgg16 was never used on this machine." in trusted
    assert said[0] == f"downloading {FILE} to {cache}"
    assert said[1] == f"from {faulty_server.url}/aml/{FILE}: {len(content) / 1e6:.1f} MB"
    kilobytes = len(content) // 1000
    assert said[2].startswith(f"downloading, kB: {kilobytes}/{kilobytes}, ")
    sha256 = json.loads((cache / f"{FILE}.json").read_text())["sha256"]
    assert said[3] == f"no hash of {FILE} is published; its SHA-256 is {sha256}"
    assert again.out.splitlines() == [trusted, *first.out.splitlines()[5:]]
    assert len(faulty_server.requests) == 1


def test_what_is_said_never_mixes_with_json(
    command_line: CommandLine, synthetic: SyntheticReport, indexes: Callable[[str], Path], cache: Path
) -> None:
    ended = command_line(
        "search",
        query_of(synthetic),
        "--index",
        indexes("vgg16-gem"),
        "--student",
        "aml:mobilenet-v2-reg-vgg16",
        "--json",
        "-",
    )
    assert ended.code == 0, ended.err
    assert len(json.loads(ended.out)) == 1
    assert f"downloading {FILE} to {cache}" in ended.err


def test_an_index_of_another_teacher_ends_in_one_line(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    indexes: Callable[[str], Path],
    cache: Path,
    faulty_server: Any,
) -> None:
    ended = command_line(
        "eval",
        "--dataset",
        synthetic.test_root,
        "--index",
        indexes("resnet101-gem"),
        "--student",
        "aml:mobilenet-v2-reg-vgg16",
    )
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "error: student 'aml:mobilenet-v2-reg-vgg16' lives in the space of vgg16-gem (gem:vgg16), but the index before "
        "whitening in resnet101-gem (cccccccc), 8-D, no whitening; compare only what was made for the same teacher.\n"
    )
    assert faulty_server.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--dataset", "DATASET", "--index", "INDEX"),
        ("search", "QUERY", "--index", "INDEX"),
        ("export", "--format", "onnx"),
        ("bench",),
        ("whitening", "--data", "DATASET", "--kind", "pca", "--out", "w.safetensors"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_says_what_was_not_released(
    command_line: CommandLine,
    synthetic: SyntheticReport,
    indexes: Callable[[str], Path],
    cache: Path,
    arguments: tuple[str, ...],
    faulty_server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"DATASET": synthetic.test_root, "INDEX": indexes("vgg16-gem"), "QUERY": query_of(synthetic)}
    ended = command_line(*(places.get(one, one) for one in arguments), "--student", "aml:mobilenet-v2-reg-vgg19")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: `student` is 'aml:mobilenet-v2-reg-vgg19', which was not released; did you mean "
        "aml:mobilenet-v2-reg-vgg16?\n"
    )
    assert faulty_server.requests == []


def test_a_teacher_that_was_not_released_is_said(
    command_line: CommandLine, synthetic: SyntheticReport, tmp_path: Path
) -> None:
    ended = command_line(
        "index", "build", "--teacher", "gem:resnet-101", "--images", synthetic.test_root, "--out", tmp_path / "index"
    )
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == ("error: `teacher` is 'gem:resnet-101', which was not released; did you mean gem:resnet101?\n")


def test_offline_ends_in_one_line_with_address_and_place(
    command_line: CommandLine, cache: Path, faulty_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    ended = command_line("export", "--format", "onnx", "--student", "aml:mobilenet-v2-contr-2048")
    name = "mobilenet_v2_gem_contr_2048.pth.tar"
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: `AML_EDGE_OFFLINE` is '1', so {name} is not downloaded; get it from {faulty_server.url}/aml/{name} "
        f"and put it at {cache / name}.\n"
    )


def test_a_cache_that_cannot_be_written_to_ends_in_one_line(
    command_line: CommandLine, cache: Path, content: bytes
) -> None:
    cache.write_bytes(b"a file where the folder should be")
    ended = command_line("export", "--format", "onnx", "--student", "aml:mobilenet-v2-contr-2048")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert str(cache) in ended.err
