"""Whether approximate indexes still are what was built, said without FAISS."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from aml_edge.approximate.building import build_approximate
from aml_edge.approximate.record import approximate_path
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.approximate.verification import check_approximate
from aml_edge.index import TeacherIndex


@pytest.fixture
def built(index: TeacherIndex, monkeypatch: pytest.MonkeyPatch) -> TeacherIndex:
    """An index with two structures, and FAISS gone."""
    for factory in ("SQ8", "Flat"):
        build_approximate(index, ApproximateSpec(factory))
    monkeypatch.setitem(sys.modules, "faiss", None)
    return index


def test_what_was_built_holds(built: TeacherIndex) -> None:
    (built.path / "approximate" / ".PQ8.1.partial").mkdir()
    flat, quantised = check_approximate(built)
    assert (flat.name, flat.holds, flat.found) == ("approximate Flat", True, "of these rows, 0.0 MB, as recorded")
    assert (quantised.name, quantised.holds) == ("approximate SQ8", True)


def test_without_any_nothing_is_checked(index: TeacherIndex) -> None:
    assert check_approximate(index) == ()


def test_a_changed_byte_is_found(built: TeacherIndex) -> None:
    file = approximate_path(built.path, "SQ8") / "vectors.faiss"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    flat, quantised = check_approximate(built)
    assert (flat.holds, quantised.holds) == (True, False)
    assert quantised.found == "another SHA-256 than record.json says"


def test_a_file_that_is_gone_or_of_other_rows_is_named(built: TeacherIndex, tmp_path: Path) -> None:
    folder = approximate_path(built.path, "SQ8")
    (folder / "vectors.faiss").unlink()
    (found,) = [check.found for check in check_approximate(built) if check.holds is False]
    assert "No such file" in found
    shutil.rmtree(folder)
    record = approximate_path(built.path, "Flat") / "record.json"
    record.write_text(record.read_text().replace('"count": 600', '"count": 601'))
    (check,) = check_approximate(built)
    assert check.holds is False
    assert "holds 601 × 16 rows, but the index 600 × 16" in check.found
