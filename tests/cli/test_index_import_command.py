"""`aml-edge index import`: an index out of another tool's vectors, that is evaluated as the one they came from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from qdrant_client import QdrantClient, models

from aml_edge.artifact import Artifact
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.errors import UsageError
from aml_edge.index import TeacherIndex, open_index
from aml_edge.index.building import build_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.checkpoint_embedders import teacher_embedder

CommandLine = Callable[..., Any]
WHITENING = Whitening(torch.zeros(1280), torch.randn(6, 1280, generator=torch.Generator().manual_seed(0)))
BY_NAME = (
    *("--teacher-name", "toy teacher", "--weights-sha256", "a" * 64),
    *("--image-size", 64, "--fit", "letterbox", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"),
)


def as_npy(index: TeacherIndex, folder: Path) -> tuple[object, ...]:
    np.save(folder / "team.npy", index.embeddings)
    (folder / "names.txt").write_text("\n".join(index.ids))
    return folder / "team.npy", "--ids", folder / "names.txt"


def as_npz(index: TeacherIndex, folder: Path) -> tuple[object, ...]:
    np.savez_compressed(folder / "team.npz", vectors=index.embeddings, names=np.array(index.ids))
    return folder / "team.npz", "--ids-key", "names"


def as_parquet(index: TeacherIndex, folder: Path) -> tuple[object, ...]:
    table = pa.table({"path": index.ids, "embedding": pa.array(index.embeddings.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "team.parquet")
    return folder / "team.parquet", "--id-column", "path"


def as_faiss(index: TeacherIndex, folder: Path) -> tuple[object, ...]:
    numbers = np.arange(len(index.ids))[::-1] * 7
    held = faiss.IndexIDMap(faiss.IndexFlatIP(index.space.dimension))
    held.add_with_ids(np.ascontiguousarray(index.embeddings), numbers)
    faiss.write_index(held, str(folder / "team.faiss"))
    names = {str(number): one for number, one in zip(numbers, index.ids, strict=True)}
    (folder / "names.json").write_text(json.dumps(names))
    return folder / "team.faiss", "--ids", folder / "names.json"


def as_qdrant(index: TeacherIndex, folder: Path) -> tuple[object, ...]:
    with closing(QdrantClient(path=str(folder / "qdrant"))) as client:
        size = index.space.dimension
        vectors = models.VectorParams(size=size, distance=models.Distance.DOT)
        client.create_collection("images", vectors_config={"teacher": vectors})
        points = [
            models.PointStruct(id=row, vector={"teacher": index.embeddings[row].tolist()}, payload={"path": one})
            for row, one in enumerate(index.ids)
        ]
        client.upsert("images", points)
    return folder / "qdrant", "--collection", "images", "--vector-name", "teacher", "--id-field", "path"


@pytest.fixture
def known_teacher(monkeypatch: pytest.MonkeyPatch, tiny_teacher: TeacherCheckpoint) -> TeacherCheckpoint:
    """A small network, and a whitening that came with it, answer to the name of a teacher."""
    teacher = replace(tiny_teacher, whitenings={"toy": WHITENING})

    def resolve(name: str, *, progress: object) -> TeacherCheckpoint:
        if name != "tiny":
            raise UsageError(f"`teacher` is {name!r}; it must be tiny.")
        return teacher

    monkeypatch.setattr(released, "resolve_teacher", resolve)
    return teacher


@pytest.fixture(scope="module")
def tiny_index(
    synthetic: SyntheticReport, tiny_teacher: TeacherCheckpoint, tmp_path_factory: pytest.TempPathFactory
) -> TeacherIndex:
    """The tiny teacher's index of the synthetic set at 48 px."""
    embedder = teacher_embedder(tiny_teacher, Preprocessing(48))
    return build_index(embedder, image_source(synthetic.test_root), tmp_path_factory.mktemp("tiny") / "ix")


@pytest.mark.parametrize("export", [as_npy, as_npz, as_parquet, as_faiss, as_qdrant])
def test_rows_and_ids_go_there_and_back(
    command_line: CommandLine, blob_index: Path, tmp_path: Path, export: Callable[..., tuple[object, ...]]
) -> None:
    index = open_index(blob_index)
    ended = command_line("index", "import", *export(index, tmp_path), *BY_NAME, "--out", tmp_path / "ix")
    assert (ended.code, ended.err) == (0, "")
    for file in ("embeddings.npy", "ids.txt"):
        assert (tmp_path / "ix" / file).read_bytes() == (blob_index / file).read_bytes()
    imported = open_index(tmp_path / "ix")
    assert (imported.space, imported.preprocessing) == (index.space, index.preprocessing)


def test_a_file_is_evaluated_and_verified_against_it_with_the_same_numbers(
    command_line: CommandLine, artifact: Artifact, blob_index: Path, blobs: Path, tmp_path: Path
) -> None:
    arguments = as_faiss(open_index(blob_index), tmp_path)
    assert command_line("index", "import", *arguments, *BY_NAME, "--out", tmp_path / "ix").code == 0
    shutil.copytree(blob_index, tmp_path / "own")
    told: dict[str, list[Any]] = {"own": [], "ix": []}
    for name, numbers in told.items():
        for command in (("verify", artifact.path), ("eval", "--artifact", artifact.path)):
            ended = command_line(*command, "--index", tmp_path / name, "--dataset", blobs, "--json", "report.json")
            assert ended.code == 0, ended.err
            text = Path("report.json").read_text()
            numbers.append(json.loads(text.replace(str(tmp_path / name), "INDEX")))
    assert without_times(told["ix"]) == without_times(told["own"])
    assert told["ix"][1]["rows"][0]["report"]["easy"]["mean_average_precision"] > 0.5


def without_times(value: Any) -> Any:
    """Returns a report without what is new each time: times, and how long something took."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not any(word in key for word in ("seconds", "time", "_ms"))}
        return {key: without_times(one) for key, one in kept.items()}
    return [without_times(one) for one in value] if isinstance(value, list) else value


@pytest.mark.usefixtures("known_teacher")
def test_the_teacher_checks_a_few_images(
    command_line: CommandLine, tiny_index: TeacherIndex, synthetic: SyntheticReport, tmp_path: Path
) -> None:
    source, *ids = as_npy(tiny_index, tmp_path)
    images = ("--teacher", "tiny", "--image-size", 48, "--images", synthetic.test_root, "--check-images", 3)
    out, report = tmp_path / "ix", tmp_path / "report.json"
    ended = command_line("index", "import", source, *ids, *images, "--out", out, "--json", report)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "26 vectors of 1280 float32: team.npy, NumPy array"
    assert [line.partition(":")[0] for line in lines[1:4]] == ["hashing, MiB", "importing", "checking images"]
    assert lines[4] == str(out)
    assert lines[-2].startswith("imported       team.npy: NumPy array, float32, SHA-256 ")
    assert lines[-1] == "checked        3 images embedded again: lowest cosine 1.00000, median 1.00000"
    assert command_line("index", "info", out).out.splitlines() == lines[4:]
    imported = json.loads(report.read_text())["imported"]
    assert (imported["name"], imported["check"]["images"]) == ("team.npy", 3)
    assert imported["check"]["lowest_cosine"] == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("known_teacher")
def test_another_size_than_was_said_is_found_out(
    command_line: CommandLine,
    tiny_teacher: TeacherCheckpoint,
    blobs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aml_edge.index.declared_space.OTHER_SIDES_PX", (24, 32))
    index = build_index(teacher_embedder(tiny_teacher, Preprocessing(32)), image_source(blobs), tmp_path / "own")
    source, *ids = as_npy(index, tmp_path)
    said = ("--teacher", "tiny", "--image-size", 16, "--images", blobs, "--least-cosine", 0.9999)
    ended = command_line("index", "import", source, *ids, *said, "--out", tmp_path / "ix")
    assert ended.code == 1
    assert ended.err.startswith("error: 16 of 16 images have rows that are not what the teacher gives of them (jpg/")
    assert ended.err.endswith("; with `--image-size 32` their lowest cosine is 1.0000: import them so.\n")
    assert not list(tmp_path.glob("ix*"))


def test_a_whitening_that_came_with_the_teacher_is_named(
    command_line: CommandLine, known_teacher: TeacherCheckpoint, tiny_index: TeacherIndex, tmp_path: Path
) -> None:
    with torch.inference_mode():
        rows = WHITENING(torch.from_numpy(tiny_index.embeddings[:].copy())).numpy()
    np.save(tmp_path / "team.npy", rows)
    (tmp_path / "names.txt").write_text("\n".join(tiny_index.ids))
    said = ("--ids", tmp_path / "names.txt", "--teacher", "tiny", "--out", tmp_path / "ix")
    assert command_line("index", "import", tmp_path / "team.npy", *said, "--whitening", "toy").code == 0
    imported = open_index(tmp_path / "ix")
    assert imported.space == known_teacher.space(WHITENING)
    assert imported.whitening is not None
    shutil.rmtree(tmp_path / "ix")
    ended = command_line("index", "import", tmp_path / "team.npy", *said)
    assert (ended.code, ended.err) == (
        1,
        f"error: team.npy holds vectors of 6 values, but the declared space is {known_teacher.space().describe()}; "
        "name the teacher that made them and, where they were whitened, the whitening.\n",
    )


def test_rows_that_lose_and_that_were_not_checked_are_said_in_yellow(
    command_line: CommandLine, tiny_index: TeacherIndex, tmp_path: Path
) -> None:
    held = faiss.index_factory(1280, "SQ8", faiss.METRIC_INNER_PRODUCT)
    rows = np.array(tiny_index.embeddings)
    held.train(rows)
    held.add(rows)
    faiss.write_index(held, str(tmp_path / "team.faiss"))
    (tmp_path / "names.txt").write_text("\n".join(tiny_index.ids))
    said = ("--teacher-name", "tiny", "--weights-sha256", "a" * 64, "--normalise", "--scales", "published")
    ended = command_line(
        "index", "import", tmp_path / "team.faiss", "--ids", tmp_path / "names.txt", *said, "--out", tmp_path / "ix"
    )
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-3:] == [
        ended.out.splitlines()[-3],
        "its rows are approximations: the source does not keep what was added",
        "not checked: that its rows are embeddings of tiny is taken on trust; `index import --images` checks it",
    ]
    assert ended.out.splitlines()[-3].startswith(
        "imported       team.faiss: FAISS IndexScalarQuantizer, inner product, float32, normalised, SHA-256 "
    )
    assert open_index(tmp_path / "ix").scales == (1.0, 1 / 2**0.5, 0.5)


ONE_TEACHER = (
    "error: an index is of one teacher: give --teacher where it is at hand, else --teacher-name and --weights-sha256 "
    "(`aml-edge index info INDEX --json -` says both of one of its indexes).\n"
)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, ONE_TEACHER),
        (("--teacher-name", "toy"), 2, ONE_TEACHER),
        (("--teacher", "tiny", "--teacher-name", "toy"), 2, ONE_TEACHER),
        (("--teacher", "nope"), 2, "error: `teacher` is 'nope'; it must be tiny.\n"),
        (
            ("--teacher-name", "toy", "--weights-sha256", "abc"),
            2,
            "error: `weights_sha256` is 'abc'; it must be 64 lower-case hex digits.\n",
        ),
        (
            (*BY_NAME, "--images", "."),
            2,
            "error: `images` are to be embedded again, which takes the teacher; give it with --teacher.\n",
        ),
        (
            (*BY_NAME, "--dimension", 2048),
            2,
            "error: `dimension` is 2048, but the vectors have 32 values; check both.\n",
        ),
        (
            (*BY_NAME, "--mean", "0.5"),
            2,
            "error: `mean` is '0.5'; it must be three numbers, as 0.485,0.456,0.406 is.\n",
        ),
        (
            (*BY_NAME, "--column", "v"),
            2,
            "error: `source` is 'team.npy', a NumPy array (.npy), which has no use for --column; leave it out.\n",
        ),
        (
            (*BY_NAME, "--ids", "no.txt"),
            2,
            "error: `ids` is 'no.txt', which cannot be read: [Errno 2] No such file or directory: 'no.txt'; give a "
            "file of one id a line, in UTF-8.\n",
        ),
        (
            BY_NAME,
            2,
            "error: team.npy does not say which vector is which image's; give a file of one id a line, in the order of "
            "the rows, with --ids.\n",
        ),
    ],
)
@pytest.mark.usefixtures("known_teacher")
def test_wrong_input_is_one_line_and_nothing_is_written(
    command_line: CommandLine,
    blob_index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(blob_index / "embeddings.npy", "team.npy")
    ended = command_line("index", "import", "team.npy", *arguments, "--out", "ix")
    assert (ended.code, ended.err) == (code, said)
    assert [path.name for path in tmp_path.iterdir()] == ["team.npy"]
