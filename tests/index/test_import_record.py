"""What an index says of where its rows came from: it comes back, and anything else is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from aml_edge.index.import_record import ImageCheck, ImportRecord
from aml_edge.index.record import IndexRecord
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

CHECK = ImageCheck(images=16, least_cosine=0.99, lowest_cosine=0.9987, median_cosine=1.0)
RECORD = ImportRecord("FAISS IndexFlatIP, inner product", "team.faiss", "a" * 64, "float32", False, True, CHECK)
INDEX = IndexRecord(EmbeddingSpace("teacher", "b" * 64, 4), Preprocessing(64), 3, "c" * 64, dtype="float16")


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, sha256=None, check=None)])
def test_it_comes_back_with_the_index(record: ImportRecord) -> None:
    index = replace(INDEX, imported=record)
    assert IndexRecord.loads(index.dumps()) == index


def test_an_index_that_was_built_here_does_not_mention_it() -> None:
    assert "imported" not in json.loads(INDEX.dumps())
    assert IndexRecord.loads(INDEX.dumps()).imported is None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            [],
            "what it says of its import does not have the fields approximate, check, dtype, name, normalised, ",
        ),
        ({**RECORD.to_json(), "more": 1}, "does not have the fields"),
        ({**RECORD.to_json(), "name": 7}, "what it says of its import has the wrong type in `name`"),
        ({**RECORD.to_json(), "approximate": 0}, "has the wrong type in `approximate`"),
        ({**RECORD.to_json(), "sha256": "abc"}, "has a sha256 that is none"),
        ({**RECORD.to_json(), "check": {}}, "does not have the fields images, least_cosine, lowest_cosine, median_cos"),
        ({**RECORD.to_json(), "check": {**vars(CHECK), "images": 1.5}}, "check has a field of the wrong type"),
        ({**RECORD.to_json(), "check": {**vars(CHECK), "median_cosine": "1"}}, "check has a field of the wrong type"),
    ],
)
def test_anything_else_is_refused(broken: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        IndexRecord.loads(json.dumps({**json.loads(INDEX.dumps()), "imported": broken}))
    assert message in str(refusal.value)
