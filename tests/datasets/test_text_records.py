"""Lists that programs wrote, and what is said of those that they did not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aml_edge.datasets import text_records
from aml_edge.datasets.text_records import lines_of, number_of, records_of
from aml_edge.errors import DatasetError


def refusal(path: Path, content: bytes, **changes: object) -> str:
    path.write_bytes(content)
    arguments: dict[str, object] = {"fields": ("id", "images"), **changes}
    with pytest.raises(DatasetError) as caught:
        list(records_of(path, **arguments))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_records_are_read_line_by_line(tmp_path: Path, end: str, mark: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"{mark}id,images{end}1,b ä{end}{end}2,{end}".encode())
    assert list(records_of(path, ("id", "images"))) == [(2, ["1", "b ä"]), (4, ["2", ""])]


def test_a_file_without_title_and_without_a_last_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 a\n2 b")
    assert list(records_of(path, ("number", "name"), " ", titled=False)) == [(1, ["1", "a"]), (2, ["2", "b"])]


def test_broken_lists_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert refusal(path, b"id,image\n1,a\n") == (
        f"{path} begins with 'id,image'; a file of this layout begins with 'id,images'."
    )
    assert refusal(path, b"") == f"{path} begins with ''; a file of this layout begins with 'id,images'."
    assert refusal(path, b"id,images\n") == f"{path} holds no records; get it again."
    assert refusal(path, b"id,images\n1,a\n2,b,c\n") == f"{path}: line 3 has 3 fields; it must have 2: id, images."
    assert refusal(path, b"id,images\n1\n") == f"{path}: line 2 has 1 fields; it must have 2: id, images."
    assert refusal(path, b"id,images\n1,\xff\n") == f"{path}: line 2 is not UTF-8; get the file again."
    assert refusal(path, "id,images\n1,ä\n".encode("utf-16")) == f"{path}: line 1 is not UTF-8; get the file again."
    absent = tmp_path / "absent.csv"
    with pytest.raises(DatasetError, match=f"{absent} cannot be read: No such file or directory"):
        list(lines_of(absent))
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        list(lines_of(tmp_path))


def test_an_endless_line_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    monkeypatch.setattr(text_records, "LONGEST_LINE_BYTES", 20)
    assert refusal(path, b"id,images\n1," + b"a" * 18 + b"\n") == (
        f"{path}: line 2 is longer than 20 bytes; get it again."
    )
    path.write_bytes(b"id,images\n1," + b"a" * 17 + b"\n")
    assert list(records_of(path, ("id", "images"))) == [(2, ["1", "a" * 17])]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_any_bytes_give_records_or_a_refusal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,images\n" + content)
    try:
        assert all(len(record) == 2 for _, record in records_of(path, ("id", "images")))
    except DatasetError as problem:
        assert str(problem).startswith(str(path))


@pytest.mark.parametrize("text", ["", "-1", "1.0", " 1", "٣", "1e3", "9" * 19, "a"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(DatasetError) as caught:
        number_of(text, "a.csv: line 2: landmark_id")
    assert str(caught.value) == f"a.csv: line 2: landmark_id is {text!a}, which is no whole number."


def test_whole_numbers() -> None:
    assert [number_of(text, "") for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
