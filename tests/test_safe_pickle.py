"""Hostile, damaged and honest pickles of data sets, the honest ones as Python 2 and 3 and both NumPys write them."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.errors import AmlEdgeError, DatasetError, UnsafePickleError
from aml_edge.numpy_stand_ins import NumpyArray
from aml_edge.safe_pickle import read_pickle, types_named_in


class RunsCommand:
    """A pickle of this runs a command when it is loaded without care."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gnd_toy.pkl"


def read(content: bytes, path: Path) -> Any:
    path.write_bytes(content)
    return read_pickle(path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_command_is_refused_before_it_runs(path: Path, tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "it ran"
    content = pickle.dumps({"imlist": ["a"], "gnd": [RunsCommand(f"touch '{trace}'")]}, protocol)
    with pytest.raises(UnsafePickleError) as caught:
        read(content, path)
    assert str(caught.value) == (
        f"{path} asks for {os.system.__module__}.system, which a data set does not need and which could run code; "
        "nothing of the file was run. Do not trust it; get it again from where it was published."
    )
    assert not trace.exists()


def test_the_hostile_file_would_have_run(tmp_path: Path) -> None:
    """Else the test above shows nothing."""
    trace = tmp_path / "it ran"
    pickle.loads(pickle.dumps(RunsCommand(f"touch '{trace}'"), protocol=2))
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"c__builtin__\ngetattr\n.", "__builtin__.getattr"),
        (b"(S'1'\nibuiltins\nexec\n.", "builtins.exec"),
        (b"ccopy_reg\n_reconstructor\n.", "copy_reg._reconstructor"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x02cnumpy.f2py.diagnose\nrun\n.", "numpy.f2py.diagnose.run"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.", "numpy.dtype.__init__"),
        # both names come from the memo, after two harmless ones were pushed
        (b"\x80\x04\x8c\x05posix\x940\x8c\x06system\x940\x8c\x05numpy0\x8c\x05dtype0h\x00h\x01\x93.", "posix.system"),
    ],
)  # fmt: skip
def test_every_other_type_is_named(path: Path, content: bytes, wanted: str) -> None:
    with pytest.raises(UnsafePickleError, match=rf"asks for {wanted.replace('.', '[.]')}, which"):
        read(content, path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x05posix\x8c\x06system\x8c\x05numpy0\x8c\x05dtype0\x93.",  # the harmless ones dropped again
        b"\x80\x04(\x8c\x05posix\x8c\x06system(\x8c\x05numpy\x8c\x05dtype1\x93.",  # and both at once
        b"\x80\x04\x8c\x05numpy\x94\x8c\x05dtype\x940(\x8c\x05posix\x8c\x06system\x8c\x01ah\x00h\x0111\x93.",
    ],
)
def test_a_name_put_together_in_another_way_is_refused(path: Path, content: bytes) -> None:
    with pytest.raises(AmlEdgeError, match=str(path)) as caught:
        read(content, path)
    assert isinstance(caught.value, UnsafePickleError | DatasetError)


def test_a_name_may_be_cut_by_a_frame(path: Path) -> None:
    """Large files are cut into frames wherever 64 KiB are full."""
    content = b"\x80\x04\x8c\x05numpy\x94\x95\x0e\0\0\0\0\0\0\0\x8c\x05dtype\x94\x93\x8c\x02f8\x85R."
    assert list(types_named_in(io.BytesIO(content))) == ["numpy.dtype"]
    assert read(content, path).dtype == np.float64


def test_a_frame_of_a_wrong_length_is_refused(path: Path) -> None:
    """Found by fuzzing: Python's unpickler reads on somewhere else behind such a frame, and takes any memory there."""
    content = pickle.dumps([bytearray(range(200)), "a"], 5)
    at = content.index(b"\x95")
    ends = {place - at - 9 for _, _, place in pickletools.genops(content) if place is not None} | {
        len(content) - at - 9
    }
    read_back = 0
    for length in (*range(300), 2**31, 2**63):
        framed = content[: at + 1] + length.to_bytes(8, "little") + content[at + 9 :]
        if length in ends:
            assert read(framed, path) == [bytearray(range(200)), "a"]
            read_back += 1
            continue
        with pytest.raises(DatasetError, match="it has a frame of a wrong length"):
            read(framed, path)
    assert read_back == len([end for end in ends if end >= 0])


def test_a_frame_in_a_frame_is_refused(path: Path) -> None:
    with pytest.raises(DatasetError, match="it has a frame of a wrong length"):
        read(b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x95\x02\0\0\0\0\0\0\0K\x01.", path)


def test_large_honest_files_are_read(path: Path) -> None:
    content = [np.arange(number % 7) for number in range(3000)]
    for protocol in (2, 4, 5):
        read_back = read(pickle.dumps([*content, np.float64(2.5)], protocol), path)
        assert [array.values.size for array in read_back[:-1]] == [number % 7 for number in range(3000)]


def test_a_later_hostile_type_stops_what_comes_before_it(path: Path) -> None:
    """The whole file is looked through first: not even an array is made."""
    content = pickle.dumps([np.arange(3.0), RunsCommand("true")], protocol=2)
    assert list(types_named_in(io.BytesIO(content)))[-1] == f"{os.system.__module__}.system"
    with pytest.raises(UnsafePickleError, match="nothing of the file was run"):
        read(content, path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x02U\x01aQ.", "ValueError: it uses BINPERSID"),
        (b"Pa\n.", "ValueError: it uses PERSID"),
        (b"\x80\x02\x82\x01.", "ValueError: it uses EXT1"),
        (b"\x80\x05\x97.", "ValueError: it uses NEXT_BUFFER"),
        (b"\x80\x05\x96\x01\0\0\0\0\0\0\0a\x98.", "ValueError: it uses READONLY_BUFFER"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "ValueError: it claims more memory than its own length"),
        (b"]p2000000000\n.", "ValueError: it claims more memory than its own length"),
        (b"\x80\x02c_codecs\nencode\n(U\x01aU\x04zlibtR.", "it holds bytes in an encoding that is not latin1"),
        (b"\x80\x02c_codecs\nencode\n}b.", "ValueError: it changes a function"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x01aK\x01s\x86b.", "ValueError: it changes a function"),
        (b"\x80\x02cnumpy\nndarray\n}U\x01aK\x01sb.", "TypeError"),
        (b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.", "it holds a NumPy array of 'O'; only arrays of numbers are read"),
        (b"\x80\x02cnumpy\ndtype\nU\x03U10\x85R.", "it holds a NumPy array of 'U10'; only arrays of numbers are read"),
    ],
)
def test_what_no_data_set_needs_is_refused(path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read(content, path)
    assert str(caught.value).startswith(f"{path} cannot be read as a pickle (")
    assert reason in str(caught.value)
    assert str(caught.value).endswith("); get it again.")


def test_extension_codes_of_the_program_are_not_used(path: Path) -> None:
    """`copyreg` keeps a table of numbers for types, and a cache that would go past the table of known names."""
    copyreg.add_extension(os.system.__module__, "system", 240)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
        with pytest.raises(DatasetError, match="it uses EXT1"):
            read(b"\x80\x02\x82\xf0.", path)
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 240)


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_numbers_come_back(path: Path, protocol: int) -> None:
    content = {
        "names": ["a", "b c", "ü"],
        "numbers": (1, -2, 2**40, 2.5, True, None),
        "raw": b"\x00\xff",
        "nothing": b"",
        "sets": [{1, 2}, frozenset({3})],
        7: {"deep": [[[]]]},
    }
    assert read(pickle.dumps(content, protocol), path) == content


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i8", ">i4", "|u1", "|b1", "<u2", "<f2"])
def test_arrays_and_scalars_come_back(path: Path, protocol: int, dtype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    content = [array, np.asfortranarray(array), array[0], array[:, 1][1], np.zeros((0, 4), dtype)]
    read_back = read(pickle.dumps(content, protocol), path)
    for place in (0, 1, 2, 4):
        assert isinstance(read_back[place], NumpyArray)
        np.testing.assert_array_equal(read_back[place].values, content[place])
    assert read_back[3] == 0
    assert not isinstance(read_back[3], np.generic)


def python_2_array(values: bytes, kind: bytes, shape: tuple[int, ...]) -> bytes:
    """Returns the operations by which Python 2 and the NumPy of its time pickle an array: all text is bytes."""
    sides = b"(" + b"".join(b"K" + bytes([side]) for side in shape) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + sides
        + b"cnumpy\ndtype\n"
        b"U"
        + bytes([len(kind)])
        + kind
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(values)]) + values + b"tb"
    )


def test_files_of_python_2_come_back(path: Path) -> None:
    box = struct.pack("<4d", 136.5, 34.1, 648.5, 955.7)
    rows = struct.pack("<3q", 255, 0, 7)
    content = (
        b"\x80\x02}(U\x06imlist](U\x03\xe9t\xe9U\x01be"
        b"U\x03bbx" + python_2_array(box, b"f8", (4,)) + b"U\x04easy" + python_2_array(rows, b"i8", (3,))
        + b"U\x04junkc__builtin__\nset\n]K\x05a\x85R"
        + b"U\x05countcnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02i8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x08" + struct.pack("<q", 255) + b"\x86Ru."
    )  # fmt: skip
    read_back = read(content, path)
    assert read_back["imlist"] == ["été", "b"]
    assert read_back["bbx"].values.tolist() == [136.5, 34.1, 648.5, 955.7]
    assert read_back["easy"].values.tolist() == [255, 0, 7]
    assert read_back["junk"] == {5}
    assert read_back["count"] == 255


def test_the_python_2_operations_are_what_numpy_understands() -> None:
    """Else the test above shows nothing."""
    array = pickle.loads(
        b"\x80\x02" + python_2_array(struct.pack("<2q", 255, 7), b"i8", (2,)) + b".", encoding="latin1"
    )
    np.testing.assert_array_equal(array, [255, 7])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot be read as a pickle \(ValueError: "),
        (b"\x80", r"cannot be read as a pickle \(ValueError: "),
        (b"hello", r"cannot be read as a pickle \("),
        (b"\x80\x02.", r"cannot be read as a pickle \("),
        (b"K\x01", r"cannot be read as a pickle \(ValueError: "),
        (b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.", r"cannot be read as a pickle \("),
        (b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x7fK\x01.", r"cannot be read as a pickle \("),
        (b"I" + b"9" * 5000 + b"\n.", r"cannot be read as a pickle \("),
    ],
)
def test_other_bytes_are_refused(path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(content, path)


def test_a_file_that_is_too_large_is_not_read(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2**26 + 1)
    with pytest.raises(DatasetError) as caught:
        read_pickle(path)
    assert str(caught.value) == (
        f"{path} cannot be read as a pickle (ValueError: it has more than 67108864 bytes); get it again."
    )


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_pickle(path)
    assert str(caught.value) == f"{path} cannot be read: No such file or directory."
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        read_pickle(path.parent)


def test_a_few_bytes_do_not_take_much_memory(path: Path) -> None:
    bombs = [
        b"\x80\x02]r\xff\xff\xff\x0f.",
        b"\x80\x05\x96\xff\xff\xff\xff\x0f\0\0\0a.",
        b"\x80\x02T\xff\xff\xff\x0fa.",
    ]
    for content in bombs:
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(DatasetError):
            read_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20


GROUND_TRUTH = pickle.dumps(
    {
        "imlist": ["a", "b"],
        "qimlist": ["q"],
        "gnd": [{"bbx": np.array([1.0, 2.0, 3.0, 4.0]), "easy": [0], "hard": np.arange(1), "junk": np.int64(1)}],
    },
    protocol=2,
)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(GROUND_TRUTH) - 1), change=st.binary(max_size=4), cut=st.booleans())
def test_damaged_files_give_our_errors_only(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: bytes, cut: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(GROUND_TRUTH[:place] + change + (b"" if cut else GROUND_TRUTH[place + len(change) :]))
    try:
        read_pickle(path)  # a changed number or letter still reads
    except AmlEdgeError as error:
        assert isinstance(error, DatasetError | UnsafePickleError)
        assert str(error).startswith(str(path))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=64))
def test_random_bytes_give_our_errors_only(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.pkl"
    path.write_bytes(content)
    try:
        read_pickle(path)
    except AmlEdgeError as error:
        assert isinstance(error, DatasetError | UnsafePickleError)
