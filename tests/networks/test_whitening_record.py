"""What a whitening's record says, and what it takes; reading it is tested with the file that holds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aml_edge.errors import UsageError
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("a teacher", "a" * 64, 3)
RECORD = WhiteningRecord("c" * 64, WhiteningKind.LEARNED, "a teacher", "a" * 64, SPACE, "stamps", 40, 20, 1e-10)


def test_a_teacher_and_a_student_of_its_space_are_told_apart() -> None:
    student = replace(RECORD, network="mine", weights_sha256="b" * 64)
    assert (RECORD.follows_teacher, student.follows_teacher) == (True, False)
    assert RECORD.describe() == "teacher 'a teacher' (aaaaaaaa)"
    assert student.describe() == "student 'mine' (bbbbbbbb)"


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, kind=WhiteningKind.PCA, pairs=None, regularisation=0.0)])
def test_what_is_written_is_read(record: WhiteningRecord) -> None:
    assert WhiteningRecord.loads(record.dumps()) == record


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"dataset": "two\nlines"},
            r"`dataset` is 'two\nlines'; the record of a whitening takes printable names: rename it.",
        ),
        ({"network": ""}, "`network` is ''; the record of a whitening takes printable names: rename it."),
        ({"weights_sha256": "a"}, "`weights_sha256` is 'a'; it must be 64 lower-case hex digits."),
        (
            {"space": replace(SPACE, whitening_sha256="d" * 64)},
            "`space` is a teacher (aaaaaaaa), 3-D, whitening dddddddd; a whitening follows embeddings that have none: "
            "learn it on an index built without `--whitening`.",
        ),
        (
            {"pairs": None},
            "a whitening of kind 'learned' says 40 rows and None pairs; it has rows, and pairs where it is learned.",
        ),
        (
            {"rows": 0},
            "a whitening of kind 'learned' says 0 rows and 20 pairs; it has rows, and pairs where it is learned.",
        ),
        (
            {"kind": WhiteningKind.PCA},
            "a whitening of kind 'pca' says 40 rows and 20 pairs; it has rows, and pairs where it is learned.",
        ),
        ({"regularisation": -0.5}, "`regularisation` is -0.5; it must be a number of at least 0."),
    ],
)
def test_a_record_that_cannot_be_is_not_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        replace(RECORD, **changes)
    assert str(refusal.value) == said
