"""`aml-edge search`: the nearest first, by a file or by a student, and how wrong input ends."""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import aml_edge
from aml_edge.artifact import Artifact, Format
from aml_edge.datasets.image_source import image_source
from aml_edge.embedder import Embeddings, FakeEmbedder
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, save_student, save_teacher
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

CommandLine = Callable[..., Any]
SPACE = EmbeddingSpace("toy", "0" * 64, 3)
COLOURS = {"red": (250, 10, 20), "green": (10, 240, 20), "blue": (20, 10, 230), "rose": (240, 90, 100)}


class MeanEmbedder(FakeEmbedder):
    """Says what the toy file says."""

    def embed(self, images: Any) -> Embeddings:
        rows = np.stack([np.asarray(image, np.float64).mean(axis=(0, 1)) + 1 for image in images])
        embeddings: Embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return embeddings


def cosine(left: tuple[int, int, int], right: tuple[int, int, int]) -> float:
    products = [(a + 1) * (b + 1) for a, b in zip(left, right, strict=True)]
    return sum(products) / math.hypot(*(a + 1 for a in left)) / math.hypot(*(b + 1 for b in right))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search")
    (root / "colours").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (30, 40), colour).save(root / "colours" / f"{name}.png")
    embedder = MeanEmbedder(SPACE, Preprocessing(40, Fit.SQUASH))
    return build_index(embedder, image_source(root / "colours"), root / "ix").path


@pytest.fixture
def query(tmp_path: Path) -> Path:
    path = tmp_path / "query [1].png"
    Image.new("RGB", (50, 50), (200, 150, 40)).save(path)
    return path


def test_a_file_finds_the_nearest_first(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, tmp_path: Path
) -> None:
    similarities = {f"{name}.png": cosine(colour, (200, 150, 40)) for name, colour in COLOURS.items()}
    expected = sorted(similarities, key=lambda name: -similarities[name])
    report = tmp_path / "report.json"
    ended = command_line("search", query, query, "--index", index, "--artifact", toy_file, "-k", 3, "--json", report)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"queries by file {toy_file}, not run"
    assert ended.out.splitlines().count(str(query)) == 2
    (first, again) = json.loads(report.read_text())
    assert first == again
    assert first["image"] == str(query)
    assert [(one["rank"], one["id"]) for one in first["found"]] == list(enumerate(expected[:3], start=1))
    for one in first["found"]:
        assert one["similarity"] == pytest.approx(similarities[one["id"]], abs=1e-5)  # float32
    rows = [line.replace("│", " ").split() for line in ended.out.splitlines() if line.startswith("│")]
    assert rows == [[str(rank), name, f"{similarities[name]:.4f}"] for rank, name in enumerate(expected[:3], 1)] * 2


def test_files_of_every_format_find_the_same(
    command_line: CommandLine,
    index: Path,
    toy_file: Path,
    query: Path,
    mil_package: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """The other formats' files compute what the ONNX file does."""

    def channel_means(mb: Any, image: Any) -> Any:
        rows = mb.add(x=mb.reduce_mean(x=image, axes=[2, 3]), y=np.float32(1))
        return mb.real_div(x=rows, y=mb.reduce_l2_norm(x=rows, axes=[1], keep_dims=True), name="embedding")

    tflite, coreml = tmp_path / "toy.tflite", tmp_path / "toy.mlpackage"
    shutil.copy(Path(__file__).parents[1] / "data" / "channel_means.tflite", tflite)
    shutil.copytree(mil_package(channel_means, {"image": (1, 3, 40, 40)}, colours="RGB"), coreml)
    manifest = read_artifact(toy_file).manifest
    found = {}
    for file, model_format in ((toy_file, Format.ONNX), (tflite, Format.TFLITE), (coreml, Format.COREML)):
        if file != toy_file:
            write_manifest(Artifact(file, replace(manifest, format=model_format)))
        ended = command_line("search", query, "--index", index, "--artifact", file, "--json", "-")
        assert ended.code == 0, ended.err
        (answer,) = json.loads(ended.out)
        found[model_format] = {one["id"]: one["similarity"] for one in answer["found"]}
    for others in found.values():
        assert list(others) == list(found[Format.ONNX])
        assert others == pytest.approx(found[Format.ONNX], abs=1e-6)  # float32


def test_no_more_is_found_than_there_is(command_line: CommandLine, index: Path, toy_file: Path, query: Path) -> None:
    ended = command_line("search", query, "--index", index, "--artifact", toy_file, "-k", 99, "--json", "-")
    (answer,) = json.loads(ended.out)
    assert len(answer["found"]) == len(COLOURS)
    assert "query [1].png" in ended.err


def test_a_student_asks_too_the_newest_run_s_where_none_is_named(
    command_line: CommandLine,
    index: Path,
    query: Path,
    toy_student: StudentCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_student(toy_student, Path("runs") / "first")
    newest, named = (
        command_line("search", query, "--index", index, *student, "--json", "-")
        for student in ((), ("--student", "first"))
    )
    assert newest.code == 0, newest.err
    assert newest.out == named.out
    assert newest.err.startswith(f"queries by student toy ({toy_student.weights_sha256[:8]})\n")
    (answer,) = json.loads(newest.out)
    assert {one["id"] for one in answer["found"]} == {f"{name}.png" for name in COLOURS}
    found = [one["similarity"] for one in answer["found"]]
    assert found == sorted(found, reverse=True)


def test_scales_are_said_where_there_is_more_than_one_each(
    command_line: CommandLine,
    query: Path,
    toy_file: Path,
    toy_student: StudentCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A student asks as the index was made; a file has one scale."""
    monkeypatch.chdir(tmp_path)
    save_student(toy_student, Path("runs") / "first")
    Path("colours").mkdir()
    Image.new("RGB", (30, 40), (9, 9, 99)).save("colours/blue.png")
    embedder = MeanEmbedder(SPACE, Preprocessing(40, Fit.SQUASH))
    build_index(embedder, image_source(Path("colours")), Path("ix"), IndexOptions(scales=(1.0, 0.5)))
    by_student = command_line("search", query, "--index", "ix", "--student", "first")
    assert by_student.out.splitlines()[0] == (
        f"queries by student toy ({toy_student.weights_sha256[:8]}), at scale 1, 0.5"
    )
    by_file = command_line("search", query, "--index", "ix", "--artifact", toy_file)
    assert by_file.out.splitlines()[0] == f"queries by file {toy_file}, not run, at scale 1; the index at 1, 0.5"


def test_a_published_student_is_taken_to_be_of_the_index_s_teacher(
    command_line: CommandLine,
    index: Path,
    query: Path,
    toy_student: StudentCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its file does not say whose it is."""
    monkeypatch.setattr(
        released, "resolve_student", lambda name, *, space, progress: replace(toy_student, name=name, space=space)
    )
    ended = command_line("search", query, "--index", index, "--student", "published", "--json", "-")
    assert ended.code == 0, ended.err
    assert len(json.loads(ended.out)[0]["found"]) == len(COLOURS)


def test_a_student_of_another_teacher_is_refused(
    command_line: CommandLine, index: Path, query: Path, toy_student: StudentCheckpoint, tmp_path: Path
) -> None:
    other = replace(toy_student, name="stranger", space=replace(SPACE, teacher="another"))
    save_student(other, tmp_path / "run")
    ended = command_line("search", query, "--index", index, "--student", tmp_path / "run")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "error: student 'stranger' lives in another (00000000), 3-D, no whitening, but the index "
        f"{index} in toy (00000000), 3-D, no whitening (different teacher); "
        "compare only what was made for the same teacher.\n"
    )


def test_a_file_of_another_space_is_refused(
    command_line: CommandLine, toy_file: Path, query: Path, index: Path, tmp_path: Path
) -> None:
    embedder = MeanEmbedder(replace(SPACE, weights_sha256="2" * 64), Preprocessing(40, Fit.SQUASH))
    build_index(embedder, image_source(index.parent / "colours"), tmp_path / "other")
    ended = command_line("search", query, "--index", tmp_path / "other", "--artifact", toy_file)
    assert ended.code == 1
    assert ended.err.startswith("error: the file toy.onnx lives in toy (00000000), 3-D, no whitening, but the index ")
    assert "(different weights_sha256)" in ended.err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.jpg", b"no image", "it is no image, or of a format that is not read"),
        ("empty.png", b"", "the file is empty"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(
    command_line: CommandLine,
    index: Path,
    toy_file: Path,
    query: Path,
    tmp_path: Path,
    name: str,
    content: bytes,
    reason: str,
) -> None:
    path, report = tmp_path / name, tmp_path / "report.json"
    path.write_bytes(content)
    arguments = ("search", query, path, query, "--index", index, "--artifact", toy_file, "--json", report)
    ended = command_line(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "error: 1 of 3 images cannot be read; remove or replace them, or pass --skip-unreadable:",
        f"  {path}: {reason}",
    ]
    assert not report.exists()
    skipping = command_line(*arguments, "--skip-unreadable")
    assert (skipping.code, skipping.err) == (0, "")
    assert skipping.out.splitlines()[-2:] == [
        "1 of 3 images could not be read and were left out:",
        f"  {path}: {reason}",
    ]
    assert [answer["image"] for answer in json.loads(report.read_text())] == [str(query)] * 2


def test_images_that_are_not_there_are_all_named(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path
) -> None:
    arguments = ("--index", index, "--artifact", toy_file)
    one = command_line("search", query, "gone.png", *arguments)
    what_to_do = "name image files, folders of them, or - for standard input."
    assert (one.code, one.out, one.err) == (2, "", f"error: gone.png does not exist; {what_to_do}\n")
    two = command_line("search", "gone.png", query, "gone too.jpg", *arguments)
    assert (two.code, two.err) == (2, f"error: gone.png, gone too.jpg do not exist; {what_to_do}\n")
    skipping = command_line("search", "gone.png", query, *arguments, "--skip-unreadable")
    assert skipping.code == 0
    assert skipping.out.splitlines()[-1] == "  gone.png: there is no such file"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (
            ("--artifact", "a.onnx", "--student", "b"),
            2,
            "`artifact` and `student` are both given, but one of them embeds a query; give one.",
        ),
        (
            ("--artifact", "a.onnx", "--student", "b", "--teacher", "c"),
            2,
            "`artifact`, `student` and `teacher` are all given, but one of them embeds a query; give one.",
        ),
        (
            ("--teacher", "a", "--runtime", "onnx"),
            2,
            "`runtime` is 'onnx', but a teacher runs in PyTorch; give a file with --artifact.",
        ),
        (
            ("--runtime", "onnx"),
            2,
            "`runtime` is 'onnx', but a student runs in PyTorch; give a file with --artifact.",
        ),
        (("--artifact", "gone.onnx"), 2, "gone.onnx does not exist; `aml-edge export` makes one."),
        (
            ("--student", "nope"),
            2,
            "`student` is 'nope'; it must be a student's file, a run's folder, the name of a run in runs, or "
            "aml:NAME as released.",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    command_line: CommandLine, index: Path, query: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    ended = command_line("search", query, "--index", index, *options)
    assert (ended.code, ended.out, ended.err) == (code, "", f"error: {said}\n")


@pytest.mark.parametrize(("value", "said"), [(math.nan, "that is not finite"), (2.0, "of length 3.464, not 1")])
def test_an_embedding_that_cannot_be_one_is_an_error_and_no_answer(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, tmp_path: Path, value: float, said: str
) -> None:
    damaged = tmp_path / "ix"
    shutil.copytree(index, damaged)
    np.load(damaged / "embeddings.npy", mmap_mode="r+")[2] = value  # of (3,), so 2·√3 long
    ended = command_line("search", query, "--index", damaged, "--artifact", toy_file)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: the index {damaged} holds an embedding {said}, for red.png; `aml-edge index verify {damaged}` finds "
        "all of them: copy the index again, or build it again.\n"
    )


def test_a_folder_asks_with_every_image_below_it(
    command_line: CommandLine, index: Path, toy_file: Path, tmp_path: Path
) -> None:
    """So many that each gets a line in place of a table."""
    for number in range(21):
        (tmp_path / "photos" / str(number % 3)).mkdir(parents=True, exist_ok=True)
        name, colour = list(COLOURS.items())[number % 4]
        Image.new("RGB", (20, 20), colour).save(tmp_path / "photos" / str(number % 3) / f"{number:02} {name}.png")
    report = tmp_path / "report.json"
    options = ("--index", index, "--artifact", toy_file, "--json", report)
    ended = command_line("search", tmp_path / "photos", *options)
    assert (ended.code, ended.err) == (0, "")
    queries = sorted((tmp_path / "photos").rglob("*.png"))
    lines = [f"{query}  1.0000  {query.stem[3:]}.png" for query in queries]
    assert ended.out.splitlines()[1:] == ["the nearest of each; --json and --html have the others", *lines]
    answers = json.loads(report.read_text())
    assert [answer["image"] for answer in answers] == list(map(str, queries))
    assert {len(answer["found"]) for answer in answers} == {4}


def test_standard_input_is_an_image_or_a_list(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped(content: bytes) -> Any:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        ended = command_line("search", "-", "--index", index, "--artifact", toy_file, "--json", "-")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    (named,) = json.loads(command_line("search", query, "--index", index, "--artifact", toy_file, "--json", "-").out)
    assert piped(query.read_bytes()) == [{**named, "image": "-"}]
    assert piped(f"{query}\n{query}\n".encode()) == piped(f"{query}\0{query}\0".encode()) == [named, named]


def test_a_damaged_image_of_standard_input_is_called_so(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(query.read_bytes()[:-30])))
    ended = command_line("search", "-", "--index", index, "--artifact", toy_file)
    assert ended.code == 1
    assert ended.err.splitlines()[0] == "error: 1 of 1 images cannot be read; remove or replace them:"
    assert ended.err.splitlines()[1].startswith("  standard input: it is damaged (")


def test_closed_standard_input_matters_only_where_it_is_read(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert command_line("search", query, "--index", index, "--artifact", toy_file).code == 0
    ended = command_line("search", "-", "--index", index, "--artifact", toy_file)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: standard input is empty; ")


def test_a_box_is_all_that_asks(command_line: CommandLine, index: Path, toy_file: Path, tmp_path: Path) -> None:
    both = Image.new("RGB", (40, 20), COLOURS["red"])
    both.paste(COLOURS["blue"], (20, 0, 40, 20))
    both.save(tmp_path / "both.png")
    options = ("--index", index, "--artifact", toy_file, "-k", 1, "--json", "-")
    for box, name in (("0,0,20,20", "red.png"), ("20,0,4e1,20", "blue.png"), ("-9,-9,20,99", "red.png")):
        ended = command_line("search", tmp_path / "both.png", f"--box={box}", *options)
        (found,) = json.loads(ended.out)[0]["found"]
        assert (found["id"], found["similarity"]) == (name, pytest.approx(1))
    outside = command_line("search", tmp_path / "both.png", "--box", "50,0,60,20", *options)
    assert outside.code == 1
    assert "its box (50.0, 0.0, 60.0, 20.0) holds no pixel of 40×20" in outside.err
    two = command_line("search", *[tmp_path / "both.png"] * 2, "--box", "0,0,9,9", *options)
    assert (two.code, two.err) == (2, "error: `box` is given, but 2 images ask; it is cut out of one.\n")


@pytest.mark.parametrize("box", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,0,nan,9", "0,0,inf,9", "9,0,9,9", "0,9,9,0"])
def test_a_box_has_two_edges_each_way(command_line: CommandLine, index: Path, query: Path, box: str) -> None:
    ended = command_line("search", query, "--index", index, f"--box={box}")
    assert (ended.code, ended.err) == (
        2,
        f"error: `box` is {box!r}; it must be X0,Y0,X1,Y1 in px of the upright image, with X0 < X1 and Y0 < Y1.\n",
    )


def test_the_teacher_finds_what_it_embedded(
    command_line: CommandLine,
    index: Path,
    toy_file: Path,
    query: Path,
    tiny_teacher: TeacherCheckpoint,
    tmp_path: Path,
) -> None:
    save_teacher(tiny_teacher, tmp_path / "teacher")
    colours = index.parent / "colours"
    build = command_line(
        "index", "build", "--teacher", tmp_path / "teacher", "--images", colours, "--out", tmp_path / "ix"
    )
    assert build.code == 0, build.err
    ended = command_line(
        "search", colours, "--index", tmp_path / "ix", "--teacher", tmp_path / "teacher", "--json", "-"
    )
    assert ended.err.startswith(f"queries by teacher tiny ({tiny_teacher.space().weights_sha256[:8]})\n"), ended.err
    for answer in json.loads(ended.out):
        assert answer["found"][0]["similarity"] == pytest.approx(1, abs=1e-5)  # float32
    other = command_line("search", query, "--index", index, "--teacher", tmp_path / "teacher")
    assert other.code == 1
    assert other.err.startswith("error: teacher 'tiny' lives in tiny (")


def test_a_page_shows_what_was_found(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, tmp_path: Path
) -> None:
    page, images = tmp_path / "pages" / "page.html", tmp_path / "images"
    images.mkdir()
    shutil.copy(index.parent / "colours" / "rose.png", images)
    ended = command_line(
        "search", query, "--index", index, "--artifact", toy_file, "-k", 2, "--html", page, "--images", images
    )
    assert (ended.code, ended.err) == (0, "")
    size = page.stat().st_size / 1e6
    assert ended.out.splitlines()[-3:] == [
        f"page: {page}, 1 of 2 found pictures, {size:.1f} MB",
        f"images without a picture in {images}: 1",
        "  red.png: there is no such file",
    ]
    written = page.read_text(encoding="utf-8")
    (images / "rose.png").unlink()
    ended = command_line(
        "search", query, "--index", index, "--artifact", toy_file, "-k", 2, "--html", page, "--images", images
    )
    assert ended.out.splitlines()[-1] == "name the folder that the index's ids are relative to: --images"
    assert written.count("<img ") == 2
    assert f"file {toy_file}, not run" in written
    assert f"aml-edge {aml_edge.__version__}" in written


def test_a_page_s_options_go_together(
    command_line: CommandLine, index: Path, query: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for options, said in (
        (("--images", "folder"), "`images` is 'folder', but no page is written; add --html FILE."),
        (
            ("--html", "a.html"),
            "`html` is 'a.html', but where the pictures lie is not said; add --images DIR, the folder that the index "
            "was built from.",
        ),
        (
            ("--html", "a.html", "--images", "gone"),
            "`images` is 'gone', which is no folder; give the one that the index was built from.",
        ),
        (("--html", "folder", "--images", "folder"), "`html` is 'folder', which is a folder; name a file."),
    ):
        ended = command_line("search", query, "--index", index, *options)
        assert (ended.code, ended.out, ended.err) == (2, "", f"error: {said}\n")


def test_a_page_of_too_many_pictures_is_refused_before_anything_is_embedded(
    command_line: CommandLine, index: Path, query: Path, tmp_path: Path
) -> None:
    ended = command_line(
        "search", *[query] * 1001, "--index", index, "--html", tmp_path / "a.html", "--images", tmp_path, "-k", 99
    )
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: `html` would be a page of 5005 pictures, 1001 queries with 4 found images each")


def test_what_a_terminal_would_obey_is_not_printed(
    command_line: CommandLine, index: Path, toy_file: Path, query: Path, tmp_path: Path
) -> None:
    """Ids come from whoever made the index."""
    shutil.copytree(index, tmp_path / "ix")
    ids = b"a\x1b]0;title\x07.png\n[bold]b[/].png\nc.png\nd.png\n"
    (tmp_path / "ix" / "ids.txt").write_bytes(ids)
    record = json.loads((tmp_path / "ix" / "index.json").read_text())
    record["ids_sha256"] = hashlib.sha256(ids).hexdigest()
    (tmp_path / "ix" / "index.json").write_text(json.dumps(record))
    ended = command_line("search", query, "--index", tmp_path / "ix", "--artifact", toy_file)
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out
    assert "a\ufffd]0;title\ufffd.png" in ended.out
    assert "[bold]b[/].png" in ended.out


def test_a_missing_index_is_said_first(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("search", "gone.png", "--index", tmp_path, "--student", "nope")
    assert ended.err.startswith(f"error: {tmp_path} holds no index")


@pytest.mark.parametrize("k", [0, -1, "many"])
def test_k_counts_images(command_line: CommandLine, k: object) -> None:
    assert command_line("search", "a.png", "--index", "ix", "-k", k).code == 2
