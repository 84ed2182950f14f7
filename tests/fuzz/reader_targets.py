"""What `fuzz_readers` fuzzes: each reader with small files that it reads, made here."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from aml_edge.approximate.record import ApproximateRecord
from aml_edge.approximate.record import read_record as read_approximate_record
from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.datasets.birds import read_bird_test
from aml_edge.datasets.distractors import read_distractors
from aml_edge.datasets.instre import read_instre
from aml_edge.datasets.landmarks import read_landmark_test, read_landmark_training
from aml_edge.datasets.products import read_product_test
from aml_edge.datasets.revisited import read_revisited
from aml_edge.datasets.sfm import read_sfm
from aml_edge.downloading.archives import extract
from aml_edge.downloading.placement import Placement
from aml_edge.downloading.records import read_record
from aml_edge.formats import read_artifact, write_manifest
from aml_edge.index.record import IndexRecord
from aml_edge.index.shards import BuildPlan, begin_build
from aml_edge.index.teacher_index import encode_ids, open_index
from aml_edge.networks.checkpoints import STUDENT_FILE
from aml_edge.networks.foreign import read_published_whitening
from aml_edge.networks.recorded_weights import write_recorded_weights
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import WhiteningCheckpoint, encode_whitening, load_whitening, save_whitening
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.numpy_stand_ins import NumpyArray, NumpyDtype
from aml_edge.preprocessing import Preprocessing
from aml_edge.quantization.quantization import Quantization
from aml_edge.quantization.stored import QUANTIZATION_FILE, StoredQuantization, load_quantization, save_quantization
from aml_edge.quantization.tensors import TensorQuantization
from aml_edge.quantization_record import (
    CalibrationRecord,
    Draw,
    QuantizationMethod,
    QuantizationRecord,
    SearchBy,
    SearchRecord,
    SimulationAgreement,
)
from aml_edge.safe_pickle import KNOWN, read_pickle
from aml_edge.space import EmbeddingSpace
from aml_edge.vectors.opening import open_vectors
from aml_edge.vectors.source import SourceOptions

Files = Mapping[str, bytes]
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, NumpyArray, NumpyDtype)
_CONTAINERS = (list, tuple, set, frozenset)
_TFLITE = Path(__file__).parents[1] / "data" / "channel_means.tflite"


def _nothing_strange(value: object) -> str:
    return ""


@dataclass(frozen=True)
class Target:
    """A reader.

    Args:
        name: to choose it by.
        folders: that it reads, by file name; one file of one of them is changed in each case.
        read: reads what is in a folder.
        is_pickle: whether the changed file is one.
        left_alone: files that are never changed.
        strange_in: names what a value holds that the reader may not return.
    """

    name: str
    folders: tuple[Files, ...]
    read: Callable[[Path], object]
    is_pickle: bool = False
    left_alone: tuple[str, ...] = ()
    strange_in: Callable[[object], str] = _nothing_strange


def strange_type(value: object) -> str:
    """Returns the name of a type in a value of `read_pickle` that is not allowed; empty where all are."""
    seen, left = set(), [value]
    while left:
        one = left.pop()
        if isinstance(one, _PLAIN) or id(one) in seen or any(one is known for known in KNOWN.values()):
            continue
        seen.add(id(one))
        if type(one) is dict:
            left += [*one.keys(), *one.values()]
        elif type(one) in _CONTAINERS:
            assert isinstance(one, _CONTAINERS)
            left += one
        else:
            return type(one).__name__
    return ""


def _text(content: bytes) -> bytes:
    return b"T" + struct.pack("<I", len(content)) + content


_GROUND_TRUTH = {
    "imlist": ["a", "b", "ü"],
    "qimlist": ["q"],
    "gnd": [{"bbx": np.array([1.0, 2.0, 3.0, 4.0]), "easy": [0], "hard": np.arange(1, 2), "junk": [np.int64(2)]}],
}
_SFM = {
    split: {"cids": ["abcdef", "abcdeg", "abcdeh"], "cluster": [0, 0, 1], "qidxs": [0], "pidxs": np.array([1])}
    for split in ("train", "val")
}
_SHARING = [shared := ("a", (1, 2)), {shared: [shared] * 3}, {1, 2}, frozenset({shared}), b"raw"]
_HAND_MADE = (
    b"\x80\x02}(U\x06imlist](U\x03\xe9t\xe9U\x01beU\x03bbxcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00"
    b"\x85U\x01b\x87R(K\x01(K\x01tcnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
    b"\xffK\x00tb\x89U\x08abcdefghtbu.",
    b"\x80\x02})" + b"2\x86" * 12 + b"K\x01s.",
    b"\x80\x02]q\x00" + b"\x85" * 90 + b".",
    b"\x80\x02(" + _text(b"a" * 3000) + b"q\x000c_codecs\nencode\nq\x01" + b"h\x01h\x00U\x06latin1\x86R" * 50 + b"l.",
    b"\x80\x02((" + b"".join(b"J" + struct.pack("<i", n) for n in range(500)) + b"lq\x00cbuiltins\nset\nq\x01"
    + b"h\x01h\x00\x85R" * 50 + b"l.",
    b"\x80\x04\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x8c\x02f8\x85R\x94\x8c\x05posix0.",
    b"(S'1'\nibuiltins\nset\n.",
    pickle.dumps(bytearray(b"raw"), 5),
)  # fmt: skip


def _pickles(value: object) -> tuple[bytes, ...]:
    return tuple(pickle.dumps(value, protocol) for protocol in range(6))


def _in_files(name: str, contents: tuple[bytes, ...]) -> tuple[Files, ...]:
    return tuple({name: content} for content in contents)


def _mat(*, compressed: bool) -> bytes:
    from scipy.io import savemat

    gnd = np.empty((1, 1), [("ok", object), ("bbx", object)])
    gnd[0, 0] = (np.array([[1.0, 2.0]]), np.array([[1.0, 2.0, 3.0, 4.0]]))
    buffer = io.BytesIO()
    names, queries = np.array([["INSTRE-S1/a.jpg", "INSTRE-M/b.jpg"]], object), np.array([["q.jpg"]], object)
    savemat(buffer, {"imlist": names, "qimlist": queries, "gnd": gnd}, do_compression=compressed)
    return buffer.getvalue()


_SPACE = EmbeddingSpace("teacher", "a" * 64, 2)
_WHITENING = Whitening(torch.zeros(2), torch.eye(2))
_WHITENED = EmbeddingSpace("teacher", "a" * 64, 2, _WHITENING.sha256)


def _index() -> Files:
    ids = encode_ids(["a.jpg", "b.jpg", "c/d.jpg"])
    rows = io.BytesIO()
    np.save(rows, np.array([[1, 0], [0, 1], [1, 0]], np.float32))
    record = IndexRecord(
        _WHITENED,
        Preprocessing(),
        3,
        sha256(ids).hexdigest(),
        ("e.jpg",),
        embeddings_sha256=sha256(rows.getvalue()).hexdigest(),
    )
    whitening = encode_whitening(_WHITENING)
    return {
        "index.json": record.dumps().encode(),
        "embeddings.npy": rows.getvalue(),
        "ids.txt": ids,
        "whitening.safetensors": whitening,
    }


_PLAN = BuildPlan(_SPACE, Preprocessing(), 3, "b" * 64, 2, "torch 2", "pillow 11")


def _open_and_read(folder: Path) -> object:
    index = open_index(folder)
    return index.checked_embeddings[: len(index.ids)]


def _written(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _whitening_file() -> bytes:
    record = WhiteningRecord(
        _WHITENING.sha256, WhiteningKind.LEARNED, "teacher", "a" * 64, _SPACE, "toy", 3, 2, 0.0
    )  # fmt: skip
    return _written(lambda path: save_whitening(WhiteningCheckpoint(_WHITENING, record), path), "w.safetensors")


def _published_whitenings() -> tuple[bytes, ...]:
    content = {"m": np.zeros((2, 1)), "P": np.eye(2)}
    zipped = _written(lambda path: torch.save(content, path), "w.pth")
    return (zipped, _written(lambda path: torch.save(content, path, _use_new_zipfile_serialization=False), "w.pth"))


_QUANTIZATION = QuantizationRecord(
    QuantizationMethod.POST_TRAINING,
    CalibrationRecord("images", 16, 0, Draw.RANDOM, "d" * 64),
    {"head": "asked for"},
    equalised=True,
    bias_corrected=False,
    activation_bits=8,
    simulation=SimulationAgreement(16, 0.9, 0.99),
    search=SearchRecord(0.5, SearchBy.SIZE, 10, 11, 0.1, -0.2, 0.4, held=True),
)


def _manifest(model_format: Format) -> Manifest:
    tools = {"a": "1"}
    return Manifest(
        _SPACE,
        Preprocessing(),
        "toy",
        "none",
        "1" * 64,
        model_format,
        Precision.INT8,
        "opset 20",
        tools,
        quantization=_QUANTIZATION,
    )


def _stored_quantization() -> Files:
    activations = {"input": TensorQuantization(0.1, -5), "adaptor": TensorQuantization(0.01, 0, 16)}
    stored = StoredQuantization(Quantization(activations), _QUANTIZATION, "1" * 64)
    with tempfile.TemporaryDirectory() as folder:
        student = Path(folder) / STUDENT_FILE
        write_recorded_weights(torch.nn.Linear(1, 1), {"weights_sha256": stored.weights_sha256}, student)
        save_quantization(stored, student)
        return {name: (Path(folder) / name).read_bytes() for name in (STUDENT_FILE, QUANTIZATION_FILE)}


def _tflite() -> bytes:
    def write(path: Path) -> None:
        path.write_bytes(_TFLITE.read_bytes())
        write_manifest(Artifact(path, _manifest(Format.TFLITE)))

    return _written(write, "m.tflite")


def _onnx() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["image"], ["embedding"])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([node], "g", [value], [out]), ir_version=10)

    def write(path: Path) -> None:
        path.write_bytes(model.SerializeToString())
        write_manifest(Artifact(path, _manifest(Format.ONNX)))

    return _written(write, "m.onnx")


def _archives() -> tuple[bytes, ...]:
    files = {"jpg/a.jpg": b"a" * 700, "jpg/" + "b" * 120 + ".jpg": b"b", "readme": b""}
    archives = []
    for mode, tar_format in (("w", tarfile.PAX_FORMAT), ("w", tarfile.GNU_FORMAT), ("w:gz", tarfile.PAX_FORMAT)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode, format=tar_format) as archive:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        archives.append(buffer.getvalue())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return (*archives, buffer.getvalue())


def _unpack(folder: Path) -> object:
    found = extract(folder / "a.archive", folder / "out" / "set", Placement())
    assert {path.name for path in folder.iterdir()} == {"a.archive", "out"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return found


_ROWS = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
_NAMES = ["a", "b/ü", "c"]


def _npy() -> tuple[bytes, ...]:
    rows = (_ROWS, _ROWS.astype(np.float16), np.asfortranarray(_ROWS), _ROWS.astype(">f8"))
    return tuple(_written(lambda path, one=one: np.save(path, one), "v.npy") for one in rows)  # type: ignore[misc]


def _npz() -> tuple[bytes, ...]:
    ids = np.array(_NAMES)
    stored = _written(lambda path: np.savez(path, vectors=_ROWS, ids=ids), "v.npz")
    return (stored, _written(lambda path: np.savez_compressed(path, vectors=_ROWS, ids=ids), "v.npz"))


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"id": _NAMES, "vector": [row.tolist() for row in _ROWS]})
    return _written(lambda path: parquet.write_table(table, path), "v.parquet")


def _qdrant() -> Files:
    from qdrant_client import QdrantClient, models

    with tempfile.TemporaryDirectory() as folder:
        client = QdrantClient(path=folder)
        client.create_collection("c", models.VectorParams(size=2, distance=models.Distance.DOT))
        points = [
            models.PointStruct(id=number, vector=row.tolist(), payload={"path": name})
            for number, (row, name) in enumerate(zip(_ROWS, _NAMES, strict=True))
        ]
        client.upsert("c", points)
        client.close()
        files = ("meta.json", "collection/c/storage.sqlite")
        return {name: (Path(folder) / name).read_bytes() for name in files}


def _vectors(location: Path, options: SourceOptions | None = None) -> object:
    with closing(open_vectors(str(location), options)) as source:
        return list(source.blocks())


_APPROXIMATE = ApproximateRecord("IVF4,Flat", "nprobe=2", 3, 2, "a" * 64, "b" * 64, 4, 3, 0, "1.12", 5, "c" * 64)

_ID, _OTHER_ID = "0123456789abcdef", "fedcba9876543210"
_RECORD = {"url": "http://a/b", "size_bytes": 1, "sha256": "c" * 64, "date": "2026-01-01"}

TARGETS = (
    Target(
        "pickle",
        _in_files("a.pkl", (*_pickles(_GROUND_TRUTH), *_pickles(_SFM), *_pickles(_SHARING), *_HAND_MADE)),
        lambda folder: read_pickle(folder / "a.pkl"),
        is_pickle=True,
        strange_in=strange_type,
    ),
    Target(
        "revisited",
        _in_files("gnd_toy.pkl", _pickles(_GROUND_TRUTH)),
        lambda folder: read_revisited(folder / "gnd_toy.pkl"),
        is_pickle=True,
    ),
    Target("sfm", _in_files("a.pkl", _pickles(_SFM)), lambda folder: read_sfm(folder / "a.pkl"), is_pickle=True),
    Target("instre", _in_files("gnd_instre.mat", (_mat(compressed=False), _mat(compressed=True))), read_instre),
    Target(
        "birds",
        ({"images.txt": b"1 a/b.jpg\n2 a/c.jpg\n3 d/e.jpg\n", "image_class_labels.txt": b"1 101\n2 101\n3 200\n"},),
        read_bird_test,
    ),
    Target(
        "products",
        ({"Ebay_test.txt": b"image_id class_id super_class_id path\n1 1 1 a/b.JPG\n2 1 1 a/c.JPG\n"},),
        read_product_test,
    ),
    Target(
        "landmarks-train",
        ({"train_clean.csv": f"landmark_id,images\n1,{_ID} {_OTHER_ID}\n".encode(), "train/a": b""},),
        read_landmark_training,
        left_alone=("train/a",),
    ),
    Target(
        "landmarks-test",
        (
            {
                "retrieval_solution_v2.1.csv": (
                    f"id,images,Usage\n{_ID},{_OTHER_ID},Public\n{_OTHER_ID},None,Ignored\n".encode()
                ),
                "index.csv": f"id\n{_OTHER_ID}\n{_ID}\n".encode(),
            },
        ),
        read_landmark_test,
    ),
    Target("distractors", ({"revisitop1m.txt": b"0d3/a.jpg\nb\n"},), read_distractors),
    Target("index", (_index(),), _open_and_read),
    Target("plan", ({"plan.json": _PLAN.dumps().encode()},), lambda folder: begin_build(folder, _PLAN, restart=False)),
    Target(
        "whitening",
        _in_files("w.safetensors", (_whitening_file(),)),
        lambda folder: load_whitening(folder / "w.safetensors"),
    ),
    Target(
        "published-whitening",
        _in_files("w.pth", _published_whitenings()),
        lambda folder: read_published_whitening(folder / "w.pth"),
    ),
    Target("artifact-tflite", ({"m.tflite": _tflite()},), lambda folder: read_artifact(folder / "m.tflite")),
    Target("artifact-onnx", ({"m.onnx": _onnx()},), lambda folder: read_artifact(folder / "m.onnx")),
    Target("stored-quantization", (_stored_quantization(),), load_quantization),
    Target("archive", _in_files("a.archive", _archives()), _unpack),
    Target("vectors-npy", _in_files("v.npy", _npy()), lambda folder: _vectors(folder / "v.npy")),
    Target("vectors-npz", _in_files("v.npz", _npz()), lambda folder: _vectors(folder / "v.npz")),
    Target("vectors-parquet", _in_files("v.parquet", (_parquet(),)), lambda folder: _vectors(folder / "v.parquet")),
    Target(
        "vectors-qdrant", (_qdrant(),), lambda folder: _vectors(folder, SourceOptions(collection="c", id_field="path"))
    ),
    Target(
        "approximate-record",
        ({"IVF4,Flat/record.json": _APPROXIMATE.dumps().encode()},),
        lambda folder: read_approximate_record(folder / "IVF4,Flat"),
    ),
    Target("download-record", ({"a.json": json.dumps(_RECORD).encode()},), lambda folder: read_record(folder / "a")),
)


def _hang(folder: Path) -> None:
    while time.monotonic():
        pass


def _fill_memory(folder: Path) -> object:
    return [bytes(1 << 20) for _ in range(4000)]


def _crash(folder: Path) -> None:
    os.abort()


def _raise(folder: Path) -> None:
    raise LookupError((folder / "a").read_bytes())


SELF_TEST = (
    Target("self-test-hang", ({"a": b"a"},), _hang),
    Target("self-test-memory", ({"a": b"a"},), _fill_memory),
    Target("self-test-crash", ({"a": b"a"},), _crash),
    Target("self-test-raise", ({"a": b"a"},), _raise),
    Target("self-test-type", ({"a": b"a"},), lambda folder: [folder], strange_in=strange_type),
)
