"""What a test set knows of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml_edge.datasets.loading import load_test_set
from aml_edge.errors import UsageError

Record = dict[str, Any]
Write = Callable[[Record], Path]


def test_only_the_revisited_protocol_has_settings(
    landmarks: Path, write_revisited: Write, revisited_record: Record
) -> None:
    load_test_set(write_revisited(revisited_record)).require_settings()
    with pytest.raises(UsageError) as caught:
        load_test_set(landmarks).require_settings()
    assert str(caught.value) == (
        "`dataset` is google-landmarks-v2, whose results are published as mAP@100, not as mAP in the settings easy, "
        "medium and hard; measure it with `aml-edge eval`."
    )


def test_queries_are_the_database_where_each_image_asks_all_others(classes: Path, landmarks: Path) -> None:
    assert load_test_set(classes).queries_are_database
    assert not load_test_set(landmarks).queries_are_database
