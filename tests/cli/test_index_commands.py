"""`aml-edge index`: what is built and said, and how wrong input ends."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aml_edge.cli.index_report import report_of
from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.writing import SyntheticReport
from aml_edge.embedder import FakeEmbedder
from aml_edge.errors import UsageError
from aml_edge.index import open_index
from aml_edge.index.building import IndexOptions, build_index
from aml_edge.networks import released
from aml_edge.networks.checkpoints import TeacherCheckpoint
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

CommandLine = Callable[..., Any]
WHITENING = Whitening(torch.zeros(1280), torch.randn(6, 1280, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(autouse=True)
def known_teacher(monkeypatch: pytest.MonkeyPatch, tiny_teacher: TeacherCheckpoint) -> None:
    """A small network answers to the name of a teacher."""
    with_whitening = replace(tiny_teacher, whitenings={"toy": WHITENING})

    def resolve(name: str, *, progress: object) -> TeacherCheckpoint:
        if name != "tiny":
            raise UsageError(f"`teacher` is {name!r}; it must be tiny.")
        return with_whitening

    monkeypatch.setattr(released, "resolve_teacher", resolve)


def broken_folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 20, 90)).save(images / f"{number}.png")
    (images / "bad.jpg").write_bytes(b"no image")
    (images / "empty.jpg").write_bytes(b"")
    return images


def test_build_embeds_a_data_set_s_database(
    command_line: CommandLine, synthetic: SyntheticReport, tiny_teacher: TeacherCheckpoint, tmp_path: Path
) -> None:
    out, report = tmp_path / "ix", tmp_path / "report.json"
    root = synthetic.test_root
    ended = command_line(
        "index", "build", "--teacher", "tiny", "--images", root, "--out", out, "--image-size", 48, "--json", report
    )
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == f"26 images: database of a revisited data set, {root}"
    assert lines[1].startswith("embedding: 26/26, ")
    assert lines[2] == str(out)
    index = open_index(out)
    assert index.ids == image_source(root).ids
    assert (index.space, index.preprocessing) == (tiny_teacher.space(), Preprocessing(48))
    with Image.open(root / index.ids[3]) as image:
        image.thumbnail((48, 48), Image.Resampling.BICUBIC, reducing_gap=None)
        pixels = (np.asarray(image) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        (row,) = tiny_teacher.teacher(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float())
    assert float(row @ torch.from_numpy(index.embeddings[3].copy())) > 0.99  # resized by Pillow's own hand
    numbers = json.loads(report.read_text())
    assert (numbers["count"], numbers["dimension"], numbers["dtype"]) == (26, 1280, "float32")
    assert numbers["fingerprint"] == index.space.fingerprint

    info = command_line("index", "info", out)
    assert info.out.splitlines() == lines[2:]


def test_build_takes_the_named_side_of_a_data_set(
    command_line: CommandLine, tiny_teacher: TeacherCheckpoint, tmp_path: Path
) -> None:
    for split, names in (("train", "ab"), ("test", "cde")):
        lines = [f"{place} {place} 1 {name}.JPG\n" for place, name in enumerate(names)]
        (tmp_path / f"Ebay_{split}.txt").write_text("image_id class_id super_class_id path\n" + "".join(lines))
        for name in names:
            Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.JPG", "JPEG")
    build = ("index", "build", "--teacher", "tiny", "--images", tmp_path, "--image-size", 32, "--out")
    for options, said, names in (
        ((), "3 images: test images of Stanford", "cde"),
        (("--split", "test"), "3 images: test images of Stanford", "cde"),
        (("--split", "train"), "2 images: training images of Stanford", "ab"),
    ):
        out = tmp_path / f"index {options}"
        ended = command_line(*build, out, *options)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(said)
        assert open_index(out).ids == tuple(f"{name}.JPG" for name in names)


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_info_says_what_is_in_it_at_any_width(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    images = broken_folder(tmp_path)
    (images / "bad.jpg").unlink()
    (images / "empty.jpg").unlink()
    space = EmbeddingSpace("toy [v2]", "a" * 64, 8)
    index = build_index(FakeEmbedder(space, Preprocessing(32)), image_source(images), tmp_path / "ix")
    size = sum(path.stat().st_size for path in (tmp_path / "ix").iterdir())
    distances = [1 - float(np.dot(left, right)) for left, right in combinations(index.embeddings, 2)]
    assert report_of(index).median_pair_distance == pytest.approx(statistics.median(distances), abs=1e-6)
    assert command_line("index", "info", index.path).out.splitlines() == [
        str(index.path),
        "space          toy [v2] (aaaaaaaa), 8-D, no whitening",
        f"fingerprint    {space.fingerprint}",
        f"embeddings     3 × 8 float32, {size / 1e6:.1f} MB",
        f"ids            {index.ids[0]} … {index.ids[-1]}",
        "images         32 px, native fit",
        "scales         1",
        f"pair distance  {statistics.median(distances):.3f} (median of 1 − cosine)",
    ]


def test_info_says_that_an_index_is_of_half_precision(command_line: CommandLine, tmp_path: Path) -> None:
    images = broken_folder(tmp_path)
    (images / "bad.jpg").unlink()
    (images / "empty.jpg").unlink()
    embedder = FakeEmbedder(EmbeddingSpace("toy", "a" * 64, 8), Preprocessing(32))
    index = build_index(embedder, image_source(images), tmp_path / "ix")
    whole = json.loads(command_line("index", "info", index.path, "--json", "-").out)
    np.save(index.path / "embeddings.npy", index.embeddings.astype(np.float16))
    record = (index.path / "index.json").read_text()
    (index.path / "index.json").write_text(record.replace("float32", "float16"))
    ended = command_line("index", "info", index.path, "--json", "-")
    assert "3 × 8 float16, " in ended.err
    half = json.loads(ended.out)
    assert (whole["dtype"], half["dtype"]) == ("float32", "float16")
    assert half["median_pair_distance"] == pytest.approx(whole["median_pair_distance"], abs=2**-10)


def test_an_index_of_one_image_has_no_pair(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    embedder = FakeEmbedder(EmbeddingSpace("toy", "a" * 64, 8), Preprocessing(32))
    build_index(embedder, image_source(tmp_path / "images"), tmp_path / "ix")
    ended = command_line("index", "info", tmp_path / "ix", "--json", "-")
    assert "pair distance  –" in ended.err
    assert json.loads(ended.out)["median_pair_distance"] is None


def test_a_whitening_that_came_with_the_teacher_follows(command_line: CommandLine, tmp_path: Path) -> None:
    images = broken_folder(tmp_path)
    arguments = ("index", "build", "--teacher", "tiny", "--images", images, "--out", tmp_path / "ix")
    whitened = command_line(*arguments, "--whitening", "toy", "--skip-unreadable", "--image-size", 48)
    assert whitened.code == 4, whitened.err
    index = open_index(tmp_path / "ix")
    assert index.space.whitening_sha256 == WHITENING.sha256
    assert index.embeddings.shape == (3, 6)
    unknown = command_line(*arguments, "--whitening", "nope")
    assert unknown.code == 2
    assert unknown.err == (
        "error: `whitening` is 'nope'; it must be a whitening's file, or one that came with teacher 'tiny': toy.\n"
    )


def test_unreadable_images_are_all_listed_and_left_out_only_if_told_to(
    command_line: CommandLine, tmp_path: Path
) -> None:
    images, out = broken_folder(tmp_path), tmp_path / "ix"
    arguments = ("index", "build", "--teacher", "tiny", "--images", images, "--out", out, "--image-size", 48)
    refused = command_line(*arguments)
    assert refused.code == 1
    assert refused.err.splitlines() == [
        "error: 2 of 5 images cannot be read; remove or replace them, or pass --skip-unreadable:",
        f"  {images / 'bad.jpg'}: it is no image, or of a format that is not read",
        f"  {images / 'empty.jpg'}: the file is empty",
    ]
    assert not out.exists()
    skipped = command_line(*arguments, "--skip-unreadable")
    assert (skipped.code, skipped.err) == (4, "")
    assert skipped.out.splitlines()[-3:] == [
        "2 images could not be read, or hold nothing that the network finds, and were left out:",
        "  bad.jpg",
        "  empty.jpg",
    ]
    assert open_index(out).ids == ("0.png", "1.png", "2.png")
    assert json.loads((out / "index.json").read_text())["skipped"] == ["bad.jpg", "empty.jpg"]
    for name in ("bad.jpg", "empty.jpg"):
        (images / name).unlink()
    assert command_line(*arguments[:-3], tmp_path / "whole", "--image-size", 48, "--skip-unreadable").code == 0


def test_an_index_is_never_written_over(command_line: CommandLine, tmp_path: Path) -> None:
    images = broken_folder(tmp_path)
    (tmp_path / "ix").mkdir()
    (tmp_path / "ix" / "thesis.txt").write_text("precious")
    ended = command_line("index", "build", "--teacher", "tiny", "--images", images, "--out", tmp_path / "ix")
    assert ended.code == 1
    assert ended.err == (
        f"error: {tmp_path / 'ix'} is there already, and an index is never written over; remove it to build it again, "
        "or give another --out.\n"
    )
    assert [path.name for path in (tmp_path / "ix").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"--teacher": "nope"}, 2, "error: `teacher` is 'nope'; it must be tiny.\n"),
        ({"--images": "nowhere"}, 2, "error: nowhere is no folder; give the folder that holds the images.\n"),
        ({"--image-size": 0}, 2, "error: `image_side_px` is 0; an image has at least one pixel.\n"),
        (
            {"--scales": "-1"},
            2,
            "error: `scales` is '-1'; they must be numbers above 0, at most 4, each once: give 1,0.7071,0.5 or "
            "published.\n",
        ),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    command_line: CommandLine, tmp_path: Path, changed: dict[str, object], code: int, said: str
) -> None:
    images = broken_folder(tmp_path)
    options = {"--teacher": "tiny", "--images": images, "--out": tmp_path / "ix", **changed}
    ended = command_line("index", "build", *(word for option in options.items() for word in option))
    assert (ended.code, ended.out, ended.err) == (code, "", said)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_info_of_no_index_is_one_line(command_line: CommandLine, tmp_path: Path) -> None:
    ended = command_line("index", "info", tmp_path)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: {tmp_path} holds no index (index.json is not there); make one: `aml-edge index build`.\n"
    )


def test_verify_says_what_was_looked_at_and_what_differs(command_line: CommandLine, tmp_path: Path) -> None:
    images = broken_folder(tmp_path)
    (images / "bad.jpg").unlink()
    (images / "empty.jpg").unlink()
    embedder = FakeEmbedder(EmbeddingSpace("toy", "a" * 64, 8), Preprocessing(32))
    index = build_index(embedder, image_source(images), tmp_path / "ix").path
    fine = command_line("index", "verify", index)
    assert (fine.code, fine.err) == (0, "")
    lines = fine.out.splitlines()
    assert lines[0].startswith("checking embeddings: 3/3, ")
    assert lines[1:] == [
        str(index),
        "ids                  3, as recorded",
        "whitening            none",
        "embeddings' SHA-256  as recorded",
        "embeddings           all finite and of unit length",
        "images' SHA-256      3, as recorded",
    ]
    np.load(index / "embeddings.npy", mmap_mode="r+")[1] = 0
    (images / "2.png").write_bytes(b"other")
    report = tmp_path / "report.json"
    ended = command_line("index", "verify", index, "--images", images, "--json", report)
    assert ended.code == 1
    assert ended.out.splitlines()[2:] == [
        str(index),
        "ids                  3, as recorded",
        "whitening            none",
        "embeddings' SHA-256  another one than index.json says",
        "embeddings           1 of 3 are not finite or not of unit length (1.png)",
        "images' SHA-256      3, as recorded",
        "images               of 3 files 1 have other bytes (2.png)",
    ]
    assert ended.err == (
        f"error: the index {index} is not what was built (embeddings' SHA-256, embeddings, images), for the reasons "
        "above; copy it again, or build it again: `aml-edge index build`.\n"
    )
    written = json.loads(report.read_text())
    assert (written["path"], written["images"]) == (str(index), str(images))
    assert [check["holds"] for check in written["checks"]] == [True, True, False, False, True, False]
    assert written["checks"][-1] == {
        "name": "images",
        "holds": False,
        "found": "of 3 files 1 have other bytes (2.png)",
    }


def test_verify_of_an_older_index_says_what_is_not_known(command_line: CommandLine, tmp_path: Path) -> None:
    images = broken_folder(tmp_path)
    embedder = FakeEmbedder(EmbeddingSpace("toy", "a" * 64, 8), Preprocessing(32))
    index = build_index(embedder, image_source(images), tmp_path / "ix", IndexOptions(skip_unreadable=True)).path
    record = json.loads((index / "index.json").read_text())
    del record["images_sha256"], record["embeddings_sha256"]
    (index / "index.json").write_text(json.dumps(record))
    ended = command_line("index", "verify", index, "--images", images, "--json", "-")
    assert ended.code == 0
    assert "images' SHA-256      not known: an older index does not say it" in ended.err.splitlines()
    assert [check["holds"] for check in json.loads(ended.out)["checks"]] == [True, True, None, True, None]


def test_several_scales_are_embedded_recorded_and_said(
    command_line: CommandLine, tiny_teacher: TeacherCheckpoint, tmp_path: Path
) -> None:
    """The network's own rows at the sizes of the two scales, and their mean under GeM's power."""
    images = tmp_path / "images"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    arguments = (
        "index",
        "build",
        "--teacher",
        "tiny",
        "--images",
        images,
        "--out",
        tmp_path / "ix",
        "--image-size",
        48,
    )
    ended = command_line(*arguments, "--scales", "1,0.5", "--json", tmp_path / "report.json")
    assert (ended.code, ended.err) == (0, "")
    assert "scales         1, 0.5" in ended.out.splitlines()
    assert json.loads((tmp_path / "report.json").read_text())["scales"] == [1.0, 0.5]
    index = open_index(tmp_path / "ix")
    assert (index.scales, index.space) == ((1.0, 0.5), tiny_teacher.space())
    normalised = torch.from_numpy(((pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1))
    whole = normalised[None].float()
    half = whole.reshape(1, 3, 20, 2, 24, 2).mean((3, 5))  # what bilinear is at half the size
    with torch.inference_mode():
        rows = [tiny_teacher.teacher(one)[0].double() for one in (whole, half)]
    mean = ((rows[0] ** 3 + rows[1] ** 3) / 2) ** (1 / 3)
    np.testing.assert_allclose(index.embeddings[0], mean / mean.norm(), atol=1e-5)


def test_an_unfinished_build_of_other_scales_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    images, out = broken_folder(tmp_path), tmp_path / "ix"
    arguments = ("index", "build", "--teacher", "tiny", "--images", images, "--out", out, "--image-size", 48)
    assert command_line(*arguments).code == 1  # of its unreadable images
    (Path(f"{out}.partial") / "shards" / "000000.safetensors").write_bytes(b"a shard")
    ended = command_line(*arguments, "--skip-unreadable", "--scales", "1,0.5")
    assert ended.code == 1
    assert ended.err == (
        f"error: {out}.partial holds an unfinished index of another plan (different scales); finish that one with its "
        "own arguments, pass --restart to throw it away, or give another --out.\n"
    )
    assert command_line(*arguments, "--skip-unreadable").code == 4


def test_a_training_set_names_the_whitening_of_the_scales(
    command_line: CommandLine, tiny_teacher: TeacherCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = broken_folder(tmp_path)
    other = Whitening(torch.ones(1280), WHITENING.projection)
    both = replace(tiny_teacher, whitenings={"sfm/ss": WHITENING, "sfm/ms": other})
    monkeypatch.setattr(released, "resolve_teacher", lambda name, *, progress: {"tiny": both}[name])
    for name, scales, layer in (("one", "1", WHITENING), ("three", "published", other)):
        arguments = ("--teacher", "tiny", "--images", images, "--out", tmp_path / name, "--scales", scales)
        ended = command_line(
            "index", "build", *arguments, "--whitening", "sfm", "--skip-unreadable", "--image-size", 48
        )
        assert ended.code == 4, ended.err
        assert open_index(tmp_path / name).space.whitening_sha256 == layer.sha256


def test_build_reads_object_stores_and_tables(command_line: CommandLine, tmp_path: Path, bucket: str) -> None:
    """The same three images in a folder, in a store and in a table of two groups of columns."""
    import fsspec

    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = broken_folder(tmp_path)
    (images / "bad.jpg").unlink()
    (images / "empty.jpg").unlink()
    fsspec.filesystem("s3").put(f"{images}/", f"{bucket}/command/", recursive=True)
    names, content = ["0.png", "1.png", "2.png"], [path.read_bytes() for path in sorted(images.iterdir())]
    columns = {"sku": names, "front": content, "back": content[::-1]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    places = {
        "folder": (images, ()),
        "store": (f"{bucket}/command", ()),
        "table": (tmp_path / "t.parquet", ("--image-column", "front", "--id-column", "sku")),
    }
    for name, (place, options) in places.items():
        arguments = ("--teacher", "tiny", "--images", place, "--out", tmp_path / name, "--image-size", 48, *options)
        ended = command_line("index", "build", *arguments, "--threads", 1, "--workers", 3)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.splitlines()[0].startswith("3 images: ")
    folders = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in places]
    assert folders[0] == folders[1] == folders[2]
    unplain = command_line(
        "index", "build", "--teacher", "tiny", "--images", tmp_path / "t.parquet", "--out", tmp_path / "x"
    )
    assert (unplain.code, unplain.err) == (
        2,
        f"error: which column of {tmp_path / 't.parquet'} holds the images is not plain; name one of sku, front, back: "
        "--image-column.\n",
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--address", "head:6379"), "`address` is 'head:6379', but the engine 'local' has none; give --engine ray."),
        (("--threads", 0), "`threads` is 0; an inference needs at least one."),
        (("--workers", 0), "`workers` is 0; embedding takes at least one."),
        (("--split", "test"), "`split` is 'test', but {images} is a plain folder, which has no splits; leave it out."),
        (("--id-column", "a"), "`images` is '{images}', which is no table, so it has no columns; leave them out."),
    ],
)
def test_options_that_have_no_place_are_wrong_usage(
    command_line: CommandLine, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    images = broken_folder(tmp_path)
    ended = command_line("index", "build", "--teacher", "tiny", "--images", images, "--out", tmp_path / "ix", *options)
    assert (ended.code, ended.err) == (2, f"error: {said.format(images=images)}\n")
