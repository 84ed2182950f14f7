"""The index on disk: what is written comes back, and files that contradict each other are refused by name."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aml_edge.errors import SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.index import TeacherIndex, encode_ids, open_index
from aml_edge.index.record import IndexRecord
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import encode_whitening
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

IDS = ("jpg/a.jpg", "jpg/b.jpg", "jpg/größer, 1.jpg")
ROWS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.6, 0, 0.8, 0]], np.float32)
PREPROCESSING = Preprocessing(image_side_px=1024)
SPACE = EmbeddingSpace("teacher", "a" * 64, 4)
NEXT_STEP = "copy the index again, or build it again: `aml-edge index build`."


def write(folder: Path, space: EmbeddingSpace = SPACE, skipped: tuple[str, ...] = (), dtype: str = "float32") -> Path:
    """Writes an index by hand, from what DESIGN says of it."""
    ids = "".join(f"{one}\n" for one in IDS).encode()
    folder.mkdir()
    (folder / "ids.txt").write_bytes(ids)
    np.save(folder / "embeddings.npy", ROWS.astype(dtype))
    record = {
        "version": 1,
        "space": {**space.to_json(), "fingerprint": space.fingerprint},
        "count": 3,
        "dimension": 4,
        "dtype": dtype,
        "ids_sha256": hashlib.sha256(ids).hexdigest(),
        "preprocessing": PREPROCESSING.to_json(),
        "skipped": list(skipped),
    }
    (folder / "index.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "index")


@pytest.fixture
def whitening() -> Whitening:
    generator = torch.Generator().manual_seed(0)
    return Whitening(torch.rand(6, generator=generator), torch.rand(4, 6, generator=generator))


@pytest.fixture
def whitened(tmp_path: Path, whitening: Whitening) -> Path:
    folder = write(tmp_path / "whitened", replace(SPACE, whitening_sha256=whitening.sha256))
    (folder / "whitening.safetensors").write_bytes(encode_whitening(whitening))
    return folder


def test_opens_what_the_design_describes(folder: Path) -> None:
    index = open_index(folder)
    assert (index.path, index.space, index.preprocessing, index.ids) == (folder, SPACE, PREPROCESSING, IDS)
    assert index.embeddings.tolist() == ROWS.tolist()
    assert isinstance(index.embeddings, np.memmap)
    assert (index.whitening, index.skipped) == (None, ())
    assert index.size_bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_a_folder_may_be_named_by_a_string(folder: Path) -> None:
    assert open_index(str(folder)).path == folder


def test_half_precision_stays_half_on_disk_and_is_read_as_float32(tmp_path: Path) -> None:
    index = open_index(write(tmp_path / "half", dtype="float16"))
    assert index.embeddings.dtype == np.float16
    assert index.embeddings.nbytes == ROWS.nbytes // 2
    read = index.checked_embeddings[:]
    assert read.dtype == np.float32
    assert read.tolist() == ROWS.astype(np.float16).tolist()


def test_remembers_what_was_skipped(tmp_path: Path) -> None:
    assert open_index(write(tmp_path / "index", skipped=("jpg/broken.jpg",))).skipped == ("jpg/broken.jpg",)


def test_whitening_comes_back(whitened: Path, whitening: Whitening) -> None:
    opened = open_index(whitened).whitening
    assert opened is not None
    assert opened.mean.tolist() == whitening.mean.tolist()
    assert opened.projection.tolist() == whitening.projection.tolist()


def test_rows_of_ids_in_any_order_and_twice(folder: Path) -> None:
    rows = open_index(folder).rows_of([IDS[2], IDS[0], IDS[2]])
    assert rows.tolist() == [2, 0, 2]
    assert rows.dtype == np.intp
    assert open_index(folder).rows_of([]).tolist() == []


def test_many_ids_are_found_fast() -> None:
    ids = tuple(f"image{number}" for number in range(200_000))
    index = TeacherIndex(Path("index"), SPACE, PREPROCESSING, ids, ROWS, None)
    assert (index.rows_of(ids) == np.arange(200_000)).all()


def test_missing_ids_are_named(folder: Path) -> None:
    with pytest.raises(TeacherIndexError) as refusal:
        open_index(folder).rows_of([IDS[0], *(f"x{number}" for number in range(7))])
    assert str(refusal.value) == (
        f"index {folder} lacks 7 of 8 images (x0, x1, x2, x3, x4, …); build it from the folder that holds all of them: "
        "`aml-edge index build`."
    )


def test_what_leads_to_its_space(folder: Path, whitened: Path, whitening: Whitening) -> None:
    plain, white = open_index(folder), open_index(whitened)
    before = replace(SPACE, dimension=6)
    assert plain.whitening_for(SPACE, name="a student") is None
    assert white.whitening_for(white.space, name="a file") is None
    found = white.whitening_for(before, name="a student")
    assert found is not None
    assert found.sha256 == whitening.sha256


def test_strangers_are_refused_and_both_sides_named(folder: Path, whitened: Path) -> None:
    stranger = replace(SPACE, teacher="other")
    with pytest.raises(SpaceMismatchError, match=rf"student 's' lives in other .*the index {folder} in teacher"):
        open_index(folder).whitening_for(stranger, name="student 's'")
    with pytest.raises(SpaceMismatchError, match=r"before its whitening in teacher .*different teacher, dimension"):
        open_index(whitened).whitening_for(stranger, name="student 's'")
    other_whitening = replace(SPACE, whitening_sha256="b" * 64)
    with pytest.raises(SpaceMismatchError, match="different whitening_sha256"):
        open_index(folder).whitening_for(other_whitening, name="student 's'")


def test_no_index_is_said(tmp_path: Path, folder: Path) -> None:
    for path, kind in ((tmp_path, TeacherIndexError), (tmp_path / "nowhere", UsageError)):
        with pytest.raises(kind) as refusal:
            open_index(path)
        assert str(refusal.value) == (
            f"{path} holds no index (index.json is not there); make one: `aml-edge index build`."
        )
    with pytest.raises(TeacherIndexError, match="holds no index"):
        open_index(folder / "ids.txt")


def edited(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**record, **changes}))


def other_space(folder: Path) -> None:
    record = json.loads((folder / "index.json").read_text())
    record["space"]["teacher"] = "another"
    (folder / "index.json").write_text(json.dumps(record))


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was executed",))


def pickled(folder: Path) -> None:
    np.save(folder / "embeddings.npy", np.array([Bomb()], object), allow_pickle=True)


def bare_pickle(folder: Path) -> None:
    (folder / "embeddings.npy").write_bytes(pickle.dumps(Bomb()))


def several_arrays(folder: Path) -> None:
    np.savez(folder / "embeddings.npz", ROWS)
    (folder / "embeddings.npz").rename(folder / "embeddings.npy")


def header(text: str) -> Callable[[Path], object]:
    content = b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n" + bytes(48)
    return lambda folder: (folder / "embeddings.npy").write_bytes(content)


def ids(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "ids.txt").write_text(text)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "not JSON": (lambda folder: (folder / "index.json").write_text("{"), "index.json cannot be read: Expecting"),
    "not UTF-8": (lambda folder: (folder / "index.json").write_bytes(b"\xff"), "index.json cannot be read: 'utf-8'"),
    "deep JSON": (lambda folder: (folder / "index.json").write_text("[" * 100_000), "index.json cannot be read: "),
    "no object": (
        lambda folder: (folder / "index.json").write_text("[]"),
        "index.json cannot be read: it is not a JSO",
    ),
    "no field": (lambda folder: (folder / "index.json").write_text('{"version": 1}'), "cannot be read: 'space'"),
    "another version": (
        lambda folder: edited(folder, version=2),
        "index.json cannot be read: its version is 2, this aml-edge reads 1",
    ),
    "another space": (other_space, "the fingerprint of its space does not match the space"),
    "space of text": (lambda folder: edited(folder, space="resnet"), "index.json cannot be read: "),
    "another dimension": (lambda folder: edited(folder, dimension=5), "its count or dimension is not that of an index"),
    "no image": (lambda folder: edited(folder, count=0), "its count or dimension is not that of an index"),
    "count of text": (lambda folder: edited(folder, count="3"), "its count or dimension is not that of an index"),
    "another dtype": (
        lambda folder: edited(folder, dtype="float64"),
        "its dtype is 'float64', this aml-edge reads float32 and float16",
    ),
    "dtype of a list": (lambda folder: edited(folder, dtype=["float32"]), "its dtype is ['float32'], this aml-edge"),
    "half of a whole": (
        lambda folder: edited(folder, dtype="float16"),
        "embeddings.npy holds (3, 4) float32, but index.json says (3, 4) float16",
    ),
    "hash of nothing": (lambda folder: edited(folder, images_sha256=""), "its images_sha256 is no SHA-256"),
    "hash of a number": (lambda folder: edited(folder, embeddings_sha256=7), "its embeddings_sha256 is no SHA-256"),
    "skipped numbers": (lambda folder: edited(folder, skipped=[1]), "what it skipped is not a list of names"),
    "scales of text": (lambda folder: edited(folder, scales="1"), "its scales are not a list of numbers"),
    "no scale": (lambda folder: edited(folder, scales=[]), "index.json cannot be read: `scales` is []; "),
    "scale of nothing": (lambda folder: edited(folder, scales=[1, 0]), "cannot be read: `scales` is [1, 0]; "),
    "another count": (lambda folder: edited(folder, count=2), "ids.txt holds 3 whole lines, but index.json says 2"),
    "ids missing": (lambda folder: (folder / "ids.txt").unlink(), "ids.txt cannot be read: "),
    "ids torn": (ids("a\nb\nc"), "ids.txt holds 2 whole lines, but index.json says 3"),
    "ids twice": (ids("a\nb\na\n"), "ids.txt names an image twice"),
    "ids changed": (ids("a\nb\nc\n"), "ids.txt is not the one that index.json was written for (another SHA-256)"),
    "rows missing": (
        lambda folder: np.save(folder / "embeddings.npy", ROWS[:2]),
        "embeddings.npy holds (2, 4) float32, but index.json says (3, 4) float32",
    ),
    "rows of another type": (
        lambda folder: np.save(folder / "embeddings.npy", ROWS.astype(np.float64)),
        "embeddings.npy holds (3, 4) float64, but index.json says (3, 4) float32",
    ),
    "rows torn": (
        lambda folder: (folder / "embeddings.npy").write_bytes((folder / "embeddings.npy").read_bytes()[:-1]),
        "embeddings.npy has 175 bytes, which (3, 4) float32 do not have",
    ),
    "rows empty": (lambda folder: (folder / "embeddings.npy").write_bytes(b""), "embeddings.npy cannot be read: "),
    "rows gone": (lambda folder: (folder / "embeddings.npy").unlink(), "embeddings.npy cannot be read: "),
    "pickled objects": (pickled, "embeddings.npy holds (1,) object, but"),
    "bare pickle": (bare_pickle, "embeddings.npy cannot be read: "),
    "several arrays": (several_arrays, "embeddings.npy cannot be read: "),
    "a header of nonsense": (header("{[]: 1}"), "embeddings.npy cannot be read: "),
    "a header of Python 2": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L)}"),
        "embeddings.npy cannot be read: Reading `.npy` or `.npz` file required additional header parsing",
    ),
    "a deep header": (header("(" * 5000), "embeddings.npy cannot be read: "),
    "rows without end": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + str(2**80) + ", 4)}"),
        "embeddings.npy holds (1208925819614629174706176, 4) float32, but",
    ),
    "rows below zero": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4)}"),
        "embeddings.npy holds (-3, -4) float32, but",
    ),
    "columns first": (
        lambda folder: np.save(folder / "embeddings.npy", np.asfortranarray(ROWS)),
        "index.json says (3, 4) float32, row by row",
    ),
    "another header": (
        lambda folder: (folder / "embeddings.npy").write_bytes(b"\x93NUMPY\x02\x00" + bytes(100)),
        "embeddings.npy cannot be read: it is not of version 1.0",
    ),
    "objects": (
        header("{'descr': '|O', 'fortran_order': False, 'shape': (3, 4)}"),
        "embeddings.npy holds (3, 4) object, but",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_files_are_named(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(TeacherIndexError) as refusal:
        open_index(folder)
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(str(folder))
    assert str(refusal.value).endswith(NEXT_STEP)


def garbage(folder: Path) -> None:
    (folder / "whitening.safetensors").write_bytes(b"\xff" * 100)


def another(folder: Path) -> None:
    (folder / "whitening.safetensors").write_bytes(encode_whitening(Whitening(torch.zeros(6), torch.ones(4, 6))))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "whitening.safetensors").unlink(), "whitening.safetensors cannot be read: "),
        (garbage, "whitening.safetensors cannot be read: "),
        (another, "whitening.safetensors holds another whitening than index.json says"),
    ],
)
def test_damaged_whitening_is_named(whitened: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(whitened)
    with pytest.raises(TeacherIndexError) as refusal:
        open_index(whitened)
    assert message in str(refusal.value)
    assert str(refusal.value).endswith(NEXT_STEP)


def test_record_round_trip() -> None:
    record = IndexRecord(SPACE, replace(PREPROCESSING, fit=Fit.SQUASH), 3, "c" * 64, ("x",))
    assert IndexRecord.loads(record.dumps()) == record


def test_scales_come_back_and_an_older_record_has_one(folder: Path) -> None:
    record = IndexRecord(SPACE, PREPROCESSING, 3, "c" * 64, scales=(1.0, 1 / 3))
    assert IndexRecord.loads(record.dumps()) == record
    assert "scales" not in json.loads((folder / "index.json").read_text())
    assert open_index(folder).scales == (1.0,)
    edited(folder, scales=[1, 0.5])
    assert open_index(folder).scales == (1.0, 0.5)


def test_hashes_of_embeddings_and_images_come_back_and_an_older_record_has_none(folder: Path) -> None:
    older = IndexRecord(SPACE, PREPROCESSING, 3, "c" * 64)
    newer = replace(older, embeddings_sha256="d" * 64, images_sha256="e" * 64)
    assert IndexRecord.loads(newer.dumps()) == newer
    assert IndexRecord.loads(older.dumps()) == older
    assert not {"embeddings_sha256", "images_sha256"} & set(json.loads(older.dumps()))
    assert open_index(folder).images_sha256 is None
    edited(folder, images_sha256="e" * 64)
    assert open_index(folder).images_sha256 == "e" * 64


def test_dtype_comes_back(folder: Path) -> None:
    half = IndexRecord(SPACE, PREPROCESSING, 3, "c" * 64, dtype="float16")
    assert IndexRecord.loads(half.dumps()) == half
    assert json.loads(half.dumps())["dtype"] == "float16"


def test_ids_are_lines_of_text() -> None:
    assert encode_ids(["a b", "ü"]) == b"a b\n\xc3\xbc\n"


@pytest.mark.parametrize("broken", ["", "a\nb", "a\udcff"])
def test_ids_that_are_no_line_are_refused(broken: str) -> None:
    with pytest.raises(TeacherIndexError, match="cannot be a line of text; rename the file"):
        encode_ids([broken])


def test_ids_twice_or_none_are_refused() -> None:
    with pytest.raises(TeacherIndexError, match="the image id 'a' comes twice; an index names each image once"):
        encode_ids(["a", "b", "a"])
    with pytest.raises(TeacherIndexError, match="an index of no images says nothing; give a folder with images in it"):
        encode_ids([])
