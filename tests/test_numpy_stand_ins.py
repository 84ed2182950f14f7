"""What stands in for NumPy takes numbers only, and looks at every value before it uses it."""

from __future__ import annotations

import numpy as np
import pytest

from aml_edge.numpy_stand_ins import STAND_INS, NumpyArray, NumpyDtype, empty_array, from_buffer, scalar

F4 = NumpyDtype("f4")


def array_of(*state: object) -> NumpyArray:
    array = empty_array(NumpyArray, (0,), b"b")
    array.__setstate__(state)
    return array


def test_an_array_is_a_view_of_its_bytes() -> None:
    content = np.arange(6, dtype=np.float32).tobytes()
    np.testing.assert_array_equal(array_of(1, (2, 3), F4, False, content).values, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(array_of(1, (2, 3), F4, True, content).values, [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(from_buffer(bytearray(content), F4, (3, 2), "C").values, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(from_buffer(content, F4, (3, 2), "F").values, [[0, 3], [1, 4], [2, 5]])


def test_bytes_of_python_2_arrive_as_text() -> None:
    content = np.array([1.5, -2.0], np.float32).tobytes()
    np.testing.assert_array_equal(array_of(1, (2,), F4, False, content.decode("latin1")).values, [1.5, -2.0])
    assert scalar(F4, content[:4].decode("latin1")) == 1.5


def test_the_byte_order_is_that_of_the_state() -> None:
    dtype = NumpyDtype("i2", False, True)
    dtype.__setstate__((3, ">", None, None, None, -1, -1, 0))
    assert scalar(dtype, b"\x01\x02") == 258
    dtype.__setstate__((3, "<", None, None, None, -1, -1, 0))
    assert scalar(dtype, b"\x01\x02") == 513


@pytest.mark.parametrize("name", ["O", "O8", "U10", "S3", "V8", "M8", "m8", "f1", "c8", "f8,f8", "", "f8f8", 8, None])
def test_other_kinds_than_numbers_are_refused(name: object) -> None:
    with pytest.raises(ValueError, match="only arrays of numbers are read"):
        NumpyDtype(name)


@pytest.mark.parametrize(
    "state",
    [
        (),
        (1, (2,), F4, False),
        (1, (2,), np.dtype("f4"), False, b"\0" * 8),
        (1, (2,), F4, False, [0.0, 0.0]),
        (1, (2,), F4, False, "\u0100" * 8),
        (1, (2,), F4, False, b"\0" * 7),
        (1, (-2,), F4, False, b""),
        (1, (-2, -1), F4, False, b"\0" * 8),
        (1, (True, 2), F4, False, b"\0" * 8),
        (1, [2], F4, False, b"\0" * 8),
        (1, (2**40, 2**40), F4, False, b"\0" * 8),
        (1, (0, 2**62, 2**62), F4, False, b""),
        (1, (1,) * 99, F4, False, b"\0" * 4),
    ],
)
def test_states_that_do_not_fit_are_refused(state: tuple[object, ...]) -> None:
    with pytest.raises(ValueError):
        array_of(*state)


def test_broken_dtypes_scalars_and_buffers_are_refused() -> None:
    for state in (None, (), (3, "!"), (3, 1), "<<"):
        with pytest.raises(ValueError, match="a NumPy dtype with a broken state"):
            NumpyDtype("f4").__setstate__(state)
    for content in (b"", b"\0" * 5, None, 1.0):
        with pytest.raises(ValueError, match="a NumPy scalar that is no number"):
            scalar(F4, content)
    for arguments in ((None, F4, (1,), "C"), (b"\0" * 4, F4, (1,), "A"), (b"\0" * 4, F4, (1,), "C", (0,))):
        with pytest.raises(ValueError, match="a NumPy array with a broken state"):
            from_buffer(*arguments)


def test_subclasses_of_arrays_are_refused() -> None:
    for array_type in (np.ndarray, np.matrix, np.memmap, None):
        with pytest.raises(ValueError, match="a NumPy array of an unknown subclass"):
            empty_array(array_type, (0,), b"b")


def test_numpy_itself_is_not_in_the_table() -> None:
    assert all(made.__module__ == "aml_edge.numpy_stand_ins" for made in STAND_INS.values())
