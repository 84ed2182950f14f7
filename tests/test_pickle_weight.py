"""Pickles that are small and make others work: each of these hung, crashed or filled the memory of a reader once."""

from __future__ import annotations

import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.errors import DatasetError
from aml_edge.pickle_weight import weighed
from aml_edge.safe_pickle import read_pickle

WORK = "ValueError: it makes more work than a file of its length should"


def text(content: bytes) -> bytes:
    return b"T" + struct.pack("<I", len(content)) + content


BOMBS = {
    "a hash of 2^40 steps": (b"\x80\x02})" + b"2\x86" * 40 + b"K\x01s.", WORK),
    "the same through the memory": (
        b"\x80\x02})q\x00" + b"".join(b"0h%ch%c\x86q%c" % (n, n, n + 1) for n in range(40)) + b"K\x01s.",
        WORK,
    ),
    "a hash as deep as the stack": (
        b"\x80\x02})" + b"\x85" * 3_000_000 + b"K\x01s.",
        "ValueError: it nests more than 100 tuples",
    ),
    "a set of such": (
        b"\x80\x02cbuiltins\nset\n]q\x00)" + b"2\x86" * 40 + b"a\x85R.",
        WORK,
    ),
    "a long text encoded 20 000 times": (
        b"\x80\x02](" + text(b"a" * 500_000) + b"q\x00c_codecs\nencode\nq\x01"
        + b"h\x01h\x00U\x06latin1\x86R" * 20_000 + b"e.",
        WORK,
    ),
    "a long list copied 20 000 times": (
        b"\x80\x02](](" + b"".join(b"J" + struct.pack("<i", n) for n in range(100_000)) + b"eq\x00cbuiltins\nset\nq\x01"
        + b"h\x01h\x00\x85R" * 20_000 + b"e.",
        WORK,
    ),
    "a tuple that was made before its list was long": (
        b"\x80\x02](]q\x00\x85q\x02h\x00(" + b"".join(b"J" + struct.pack("<i", n) for n in range(100_000))
        + b"ecbuiltins\nset\nq\x01" + b"h\x01h\x02R" * 20_000 + b"e.",
        WORK,
    ),
    "numbers of one hash": (
        b"\x80\x02}("
        + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(1, 30_000))
        + b"u.",
        WORK,
    ),
    "a name that is a list of lists of lists": (
        b"\x80\x02cnumpy\ndtype\n]q\x00"
        + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(40)) + b"\x85R.",
        WORK,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), BOMBS.values(), ids=BOMBS.keys())
def test_it_is_refused_before_it_works(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "gnd_toy.pkl"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DatasetError) as caught:
        read_pickle(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value) == f"{path} cannot be read as a pickle ({reason}); get it again."
    assert peak < 100 * len(content) + 2**20


@pytest.mark.parametrize(
    "content",
    [b"h\x00.", b"0.", b"\x85.", b"(\x86.", b"a.", b"t.", b"2.", b"b.", b"R.", b"1.", b"e.", b"\x94.", b"q\x00."],
)
def test_taking_what_is_not_there_is_damage(content: bytes) -> None:
    with pytest.raises(ValueError, match="it takes from its stack or memory what is not there"):
        list(weighed(pickletools.genops(content)))


SHARED = "a text of some length that every record has, as a folder's name or an address would be" * 4
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_honest_values_pass_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "honest.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_pickle(path) == value


@pytest.mark.parametrize("protocol", range(6))
def test_large_files_that_share_much_pass(tmp_path: Path, protocol: int) -> None:
    """Records that share names, a text, a tuple and a list of the whole database."""
    names = [f"image_{number:06}" for number in range(3000)]
    shape = tuple(range(20))
    records = [
        {"bbx": np.arange(4.0), "easy": [number], "of": SHARED, "shape": shape, "all": names} for number in range(100)
    ]
    path = tmp_path / "shared.pkl"
    path.write_bytes(pickle.dumps({"imlist": names, "gnd": records, "at": {(1, "a"): shape}}, protocol))
    content = read_pickle(path)
    assert isinstance(content, dict)
    assert content["imlist"] == names
    assert [record["easy"] for record in content["gnd"]] == [[number] for number in range(100)]


def test_every_operation_is_given_on(tmp_path: Path) -> None:
    content = pickle.dumps([{"a": (1, 2), "b": {3}, "c": frozenset({4})}, b"5", bytearray(b"6")], 5)
    operations = [(operation.name, argument) for operation, argument, _ in pickletools.genops(content)]
    assert [(operation.name, argument) for operation, argument, _ in weighed(pickletools.genops(content))] == operations
