"""Hostile and damaged files: refused before anything runs, the type named; nothing else than our errors comes out."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aml_edge.errors import AmlEdgeError, CheckpointError, UnsafePickleError
from aml_edge.networks.torch_file import is_torch_file, read_torch_file
from aml_edge.numpy_stand_ins import NumpyArray


class RunsCommand:
    """A pickle of this runs a command when it is loaded without care."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def write_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def write_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_newest_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=5))


Writer = Callable[[object, Path], None]
WRITERS = [write_zip, write_legacy, write_pickle, write_newest_pickle]


@pytest.mark.parametrize("write", WRITERS)
def test_a_command_is_refused_before_it_runs(tmp_path: Path, write: Writer) -> None:
    path, trace = tmp_path / "hostile.pth", tmp_path / "it ran"
    weights = torch.zeros(2) if write in (write_zip, write_legacy) else [0.0, 0.0]
    write({"state_dict": {"a": weights}, "x": RunsCommand(f"touch '{trace}'")}, path)
    with pytest.raises(UnsafePickleError) as caught:
        read_torch_file(path)
    assert str(caught.value) == (
        f"{path} asks for {os.system.__module__}.system, which weights do not need and which could run code; "
        "nothing of the file was run. Do not trust it; get it again from where it was published."
    )
    assert not trace.exists()


def test_the_hostile_file_would_have_run(tmp_path: Path) -> None:
    """Else the test above shows nothing."""
    path, trace = tmp_path / "hostile.pth", tmp_path / "it ran"
    write_zip(RunsCommand(f"touch '{trace}'"), path)
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"(S'1'\nibuiltins\nexec\n.", "builtins.exec"),
        (b"\x80\x02ctorch._dynamo\nconfig\n.", "torch._dynamo.config"),
        (b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n.", "torch._utils._rebuild_wrapper_subclass"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x02cnumpy\nndarray\ncnumpy.matrixlib.defmatrix\nmatrix\n.", "numpy.matrixlib.defmatrix.matrix"),
    ],
)
def test_every_other_type_is_named(tmp_path: Path, content: bytes, wanted: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnsafePickleError, match=f"asks for {wanted.replace('.', '[.]')}, which"):
        read_torch_file(tmp_path / "x")


def test_a_type_is_found_in_every_pickle_of_the_older_format(tmp_path: Path) -> None:
    """The storages' keys come last, after the weights."""
    stream = io.BytesIO()
    torch.save({"a": 1}, stream, _use_new_zipfile_serialization=False)
    keys = pickle.dumps([], protocol=2)
    assert stream.getvalue().endswith(keys)
    hostile = b"\x80\x02cposix\nsystem\nU\x04true\x85R."
    (tmp_path / "x").write_bytes(stream.getvalue().removesuffix(keys) + hostile)
    with pytest.raises(UnsafePickleError, match=r"asks for posix\.system"):
        read_torch_file(tmp_path / "x")


def forged_object_array(raw: bytes) -> bytes:
    """A pickle of an array of objects that claims to hold none, so that NumPy takes `raw` for pointers."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8\x89\x88\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(raw)]) + raw + b"tb."
    )


def test_numpy_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save([], stream, _use_new_zipfile_serialization=False)
    empty_list = pickle.dumps([], protocol=2)
    before, _, after = stream.getvalue().rpartition(empty_list + empty_list)
    assert before and not after
    (tmp_path / "x").write_bytes(before + forged_object_array(b"AAAAAAAA") + empty_list)
    with pytest.raises(CheckpointError, match=r"it holds a NumPy array of 'O8'; only arrays of numbers are read\."):
        read_torch_file(tmp_path / "x")


def test_numpy_arrays_of_objects_saved_honestly_are_refused(tmp_path: Path) -> None:
    torch.save(np.array([{}, None], dtype=object), tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"only arrays of numbers are read\."):
        read_torch_file(tmp_path / "x")


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_arrays_and_plain_values_come_back(tmp_path: Path, write: Writer) -> None:
    array = np.arange(6, dtype=">f8").reshape(2, 3)
    content = OrderedDict(
        tensor=torch.arange(5.0)[1:4],
        half=torch.ones(2).half(),
        parameter=torch.nn.Parameter(torch.ones(3)),
        array=array,
        columns_first=np.asfortranarray(array.astype(np.float32)),
        scalar=np.float32(0.5),
        flag=np.bool_(True),
        count=np.int64(-3),
        plain=[1, 2.5, "text", None, True, (1, 2), {"a": b"bytes"}],
    )
    write(content, tmp_path / "x")
    read = read_torch_file(tmp_path / "x")
    assert isinstance(read, dict)
    assert list(read) == list(content)
    torch.testing.assert_close(read["tensor"], torch.tensor([1.0, 2.0, 3.0]))
    assert read["half"].dtype is torch.float16
    assert isinstance(read["array"], NumpyArray) and isinstance(read["columns_first"], NumpyArray)
    np.testing.assert_array_equal(read["array"].values, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["columns_first"].values, [[0, 1, 2], [3, 4, 5]])
    assert (read["scalar"], read["flag"], read["count"]) == (0.5, True, -3)
    assert read["plain"] == content["plain"]


def test_what_the_program_allowed_before_is_neither_used_nor_lost(tmp_path: Path) -> None:
    torch.save(np.ones(3), tmp_path / "x")
    with torch.serialization.safe_globals([np.ndarray, np.dtype]):
        before = set(torch.serialization.get_safe_globals())
        assert np.ndarray in before
        assert isinstance(read_torch_file(tmp_path / "x"), NumpyArray)
        assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_damaged_files_give_our_errors_only(tmp_path: Path, write: Writer) -> None:
    """Cut at many lengths, and with one byte changed at many places."""
    path = tmp_path / "x"
    write({"meta": {"Lw": np.ones(3), "n": 1}, "state_dict": {"a": torch.ones(4), "b": torch.zeros(2)}}, path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for length in random.integers(0, len(whole), 60):
        path.write_bytes(whole[:length])
        with pytest.raises(AmlEdgeError, match=str(path)):
            read_torch_file(path)
    for place, value in zip(random.integers(0, len(whole), 300), random.integers(0, 256, 300), strict=True):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            read_torch_file(path)  # a changed weight or name still reads
        except AmlEdgeError as error:
            assert str(path) in str(error)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)
    with pytest.raises(CheckpointError, match="a member of its archive is compressed"):
        read_torch_file(tmp_path / "x")


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    with pytest.raises(CheckpointError, match=r"or a damaged one: its archive has 0 members data\.pkl; get it again\."):
        read_torch_file(tmp_path / "x.npz")


def test_a_tar_file_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.pth.tar", "w") as archive:
        member = tarfile.TarInfo("../storages")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    with pytest.raises(CheckpointError, match=r"x\.pth\.tar"):
        read_torch_file(tmp_path / "x.pth.tar")


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"\x80", b"hello", b"PK\x03\x04", b"\x80\x02K\x01.", struct.pack("<Q", 2**63) + b"{}"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(CheckpointError, match=str(tmp_path / "x")):
            read_torch_file(tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"cannot be read: No such file or directory\."):
        read_torch_file(tmp_path / "missing")


def test_a_member_that_reaches_beyond_the_file_is_refused(tmp_path: Path) -> None:
    """Found by fuzzing: zipfile ends in an EOFError without words."""
    path = tmp_path / "x"
    write_zip({"m": 1}, path)
    content = bytearray(path.read_bytes())
    sizes = content.index(b"PK\x01\x02") + 20
    content[sizes : sizes + 8] = struct.pack("<II", len(content), len(content))
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    assert str(caught.value) == f"{path} is no file of torch.save, or a damaged one: it is cut off; get it again."


def test_files_of_torch_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    write_zip({}, tmp_path / "zip")
    write_legacy({}, tmp_path / "legacy")
    (tmp_path / "json.pth").write_text("{}")
    known = [is_torch_file(tmp_path / name) for name in ("zip", "legacy", "json.pth")]
    assert known == [True, True, False]
