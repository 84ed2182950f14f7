"""Which row is whose: files of ids beside vectors, in every way in which they can fit and not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml_edge.errors import ForeignIndexError, TeacherIndexError, UsageError
from aml_edge.index.import_ids import GivenIds, IdAssignment, read_ids, require_ids
from aml_edge.vectors.source import SourceDescription, VectorBlock

SOURCE = SourceDescription("FAISS IndexFlat", "team.faiss", count=3, dimension=2, dtype="float32")
NUMBERED = replace(SOURCE, has_ids=True)
LIST = GivenIds(Path("ids.txt"), ("a", "b", "c"))


def block(*ids: str, rows: int | None = None) -> VectorBlock:
    return VectorBlock(np.ones((rows or len(ids), 2), np.float32), ids or None)


@pytest.mark.parametrize("text", ["jpg/a b.jpg\njpg/ä.jpg\n", "jpg/a b.jpg\r\njpg/ä.jpg", "jpg/a b.jpg\njpg/ä.jpg"])
def test_lines_are_ids_in_order(tmp_path: Path, text: str) -> None:
    (tmp_path / "ids").write_bytes(text.encode())
    assert read_ids(tmp_path / "ids").names == ("jpg/a b.jpg", "jpg/ä.jpg")


def test_json_holds_a_list_or_an_object(tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text(json.dumps(["a\tb", "c"]))
    assert read_ids(file).names == ("a\tb", "c")
    file.write_text(json.dumps({"7": "a", "3": "b"}))
    assert read_ids(file).names == {"7": "a", "3": "b"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ids.json", b"{", "which cannot be read: Expecting property name"),
        ("ids.json", b"[" * 100_000, "which cannot be read: "),
        ("ids.json", b"[1, 2]", "which holds something else than texts; give a list of ids, or an object."),
        ("ids.json", b'{"a": 1}', "which holds something else than texts"),
        ("ids.json", b'"a"', "which holds something else than texts"),
        ("ids.txt", b"\xff\xfe", "which cannot be read: 'utf-8'"),
        ("no.txt", None, "which cannot be read: [Errno 2]"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as refusal:
        read_ids(tmp_path / name)
    assert str(refusal.value).startswith(f"`ids` is '{tmp_path / name}', {said}")


def test_an_id_comes_once(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\nb\na\n")
    with pytest.raises(TeacherIndexError, match="'a' comes twice"):
        read_ids(tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ids.txt", "", "which names no image; give one id a line."),
        ("ids.json", "[]", "which names no image; give one id a line."),
        ("ids.txt", "a\n\nb\n", "whose line 2 is empty; give every row its id."),
        ("ids.json", '["a", "b", ""]', "whose entry 3 is empty; give every row its id."),
    ],
)
def test_every_row_has_an_id(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as refusal:
        read_ids(tmp_path / name)
    assert str(refusal.value) == f"`ids` is '{tmp_path / name}', {said}"


def test_two_of_the_source_s_ids_cannot_be_one_image(tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text('{"1": "a", "2": "a"}')
    with pytest.raises(TeacherIndexError, match="'a' comes twice"):
        read_ids(tmp_path / "ids.json")


def test_it_must_be_known_which_row_is_whose() -> None:
    for source, given, said in (
        (
            SOURCE,
            None,
            "team.faiss does not say which vector is which image's; give a file of one id a line, in the order of the "
            "rows, with --ids.",
        ),
        (
            replace(SOURCE, other_ids="name its column with --id-column (path)"),
            None,
            "in the order of the rows, with --ids, or name its column with --id-column (path).",
        ),
        (
            SOURCE,
            GivenIds(Path("ids.txt"), ("a", "b", "c", "d")),
            "`ids` is 'ids.txt', which names 4 images, but team.faiss holds 3 vectors; give one id a vector.",
        ),
        (
            SOURCE,
            GivenIds(Path("ids.txt"), ("a", "b")),
            "names 2 images, but team.faiss holds 3 vectors; it holds one vector a column: save its transpose.",
        ),
        (
            SOURCE,
            GivenIds(Path("ids.json"), {"0": "a"}),
            "`ids` is 'ids.json', an object by the source's ids, but team.faiss has none; give a list of ids in the "
            "order of the rows.",
        ),
    ):
        with pytest.raises(UsageError) as refusal:
            require_ids(source, given)
        assert str(refusal.value).endswith(said)
    require_ids(SOURCE, LIST)
    require_ids(NUMBERED, None)
    require_ids(NUMBERED, GivenIds(Path("ids.json"), {"0": "a"}))


def test_a_list_goes_on_over_blocks() -> None:
    assignment = IdAssignment(SOURCE, LIST)
    assert assignment.assign(block(rows=2)) == ("a", "b")
    assert assignment.assign(block(rows=1)) == ("c",)
    assert assignment.ids == ["a", "b", "c"]


def test_the_source_s_own_ids_count_where_nothing_is_given() -> None:
    assignment = IdAssignment(NUMBERED, None)
    assert assignment.assign(block("7", "3")) == ("7", "3")
    assert assignment.ids == ["7", "3"]


def test_an_object_translates_them() -> None:
    given = GivenIds(Path("ids.json"), {"7": "a", "3": "b"})
    assignment = IdAssignment(NUMBERED, given)
    assert assignment.assign(block("3", "7")) == ("b", "a")
    with pytest.raises(ForeignIndexError) as refusal:
        assignment.assign(block("9"))
    assert str(refusal.value) == "team.faiss holds '9', which ids.json does not name; add it there."


def test_a_list_beside_own_ids_needs_ascending_numbers() -> None:
    assignment = IdAssignment(NUMBERED, LIST)
    assert assignment.assign(block("-5", "30")) == ("a", "b")
    assert assignment.assign(block("31")) == ("c",)
    for blocks, which in (
        ((block("1", "1"),), "not in ascending order ('1')"),
        ((block("5"), block("4")), "not in ascending order ('4')"),
        ((block("x"),), "no numbers ('x')"),
        ((block("1.5"),), "no numbers ('1.5')"),
    ):
        assignment = IdAssignment(NUMBERED, LIST)
        with pytest.raises(ForeignIndexError) as refusal:
            for one in blocks:
                assignment.assign(one)
        assert str(refusal.value) == (
            f"team.faiss has ids of its own that are {which}, so a list does not say which is whose; leave ids.txt "
            "out, or make it a JSON object of each of them and its image's id."
        )
