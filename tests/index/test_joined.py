"""Indexes one after the other: what is in the database, in which order, and what does not make one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from aml_edge.embedder import Embeddings
from aml_edge.errors import SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.index import TeacherIndex
from aml_edge.index.images import IMAGES_FILE, encode_image_hashes
from aml_edge.index.joined import join_fitting, join_indexes
from aml_edge.preprocessing import Preprocessing
from aml_edge.ranking import QueryGroundTruth, evaluate_index, evaluate_revisited
from aml_edge.scales import PUBLISHED_SCALES
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("toy", "a" * 64, 4)
HALVES = np.array(list(product([-0.5, 0.5], repeat=4)), np.float32)


def index_of(name: str, rows: Embeddings, ids: Sequence[str] | None = None) -> TeacherIndex:
    named = tuple(f"{name}/{place}" for place in range(len(rows))) if ids is None else tuple(ids)
    return TeacherIndex(Path(name), SPACE, Preprocessing(64), named, rows, None)


@pytest.mark.parametrize("memory_bytes", [1, 150, 1 << 20])
def test_the_parts_rank_as_one_database(memory_bytes: int) -> None:
    """Whose rows repeat within and across the parts, so that equal products are everywhere; one part is float16."""
    generator = np.random.default_rng(0)
    rows = HALVES[generator.integers(0, 16, 90)]
    parts = [index_of(name, part) for name, part in zip("abc", np.split(rows, [20, 60]), strict=True)]
    parts[1] = replace(parts[1], embeddings=parts[1].embeddings.astype(np.float16))
    joined = join_indexes(*parts)
    assert joined.ids == (*parts[0].ids, *parts[1].ids, *parts[2].ids)
    assert joined.distractors == 70
    queries = HALVES[:5]
    truth = [QueryGroundTruth((3, 22), (7, 88), (0, 59, 60)) for _ in queries]
    expected = evaluate_revisited(queries @ rows.T, truth)
    assert evaluate_index(queries, joined, truth, memory_bytes=memory_bytes) == expected


def test_rows_of_a_data_set_come_first_in_its_own_order() -> None:
    first, other = index_of("a", HALVES[:5]), index_of("b", HALVES[8:11])
    rows = join_indexes(first, other).rows_after(["a/4", "a/1"])
    np.testing.assert_array_equal(rows[:], np.concatenate([HALVES[[4, 1]], HALVES[8:11]]))
    with pytest.raises(TeacherIndexError, match=r"index a lacks 1 of 2 images \(b/0\)"):
        join_indexes(first, other).rows_after(["a/4", "b/0"])


def test_one_index_alone_is_a_database_too() -> None:
    assert join_indexes(index_of("a", HALVES)).distractors == 0
    np.testing.assert_array_equal(join_indexes(index_of("a", HALVES)).checked_embeddings[:], HALVES)


def test_another_space_is_refused_and_both_are_named() -> None:
    other = replace(index_of("b", HALVES), space=replace(SPACE, weights_sha256="b" * 64))
    with pytest.raises(SpaceMismatchError, match=r"^the index b lives in .*, but the index a in "):
        join_indexes(index_of("a", HALVES), other)


def test_images_that_were_seen_otherwise_are_refused() -> None:
    first = index_of("a", HALVES)
    other = replace(index_of("b", HALVES), preprocessing=Preprocessing(32), scales=PUBLISHED_SCALES)
    with pytest.raises(UsageError) as refusal:
        join_indexes(first, other)
    assert str(refusal.value) == (
        f"the index b saw its images otherwise than the index a (image_side_px 32, not 64; scales "
        f"{list(PUBLISHED_SCALES)}, not [1.0]); one database is made in one way: build one of them again as the other."
    )


def test_an_image_that_is_there_twice_is_named() -> None:
    first, second = index_of("a", HALVES[:2], ["x", "y"]), index_of("b", HALVES[:3], ["z", "y", "x"])
    third = index_of("c", HALVES[:1], ["z"])
    with pytest.raises(TeacherIndexError) as refusal:
        join_indexes(first, second, third)
    assert str(refusal.value) == (
        "the index b holds 2 images that an index before it holds too (y, x); each image is to be in the database "
        "once: give indexes of different images."
    )
    with pytest.raises(TeacherIndexError, match=r"the index c holds 1 images that an index before it holds too \(z\)"):
        join_indexes(first, index_of("b", HALVES[:1], ["z"]), third)


def test_two_images_of_one_name_are_two_where_their_bytes_are_known_to_differ(tmp_path: Path) -> None:
    """Two folders may each have a file of the same name; the digits stand for SHA-256s."""

    def hashed(folder: str, **digits: str) -> TeacherIndex:
        content = encode_image_hashes(list(digits), [64 * digit for digit in digits.values()])
        (tmp_path / folder).mkdir()
        (tmp_path / folder / IMAGES_FILE).write_bytes(content)
        index = index_of(folder, HALVES[: len(digits)], list(digits))
        return replace(index, path=tmp_path / folder, images_sha256=hashlib.sha256(content).hexdigest())

    first, other, same = hashed("a", x="1", y="2"), hashed("b", x="3", z="4"), hashed("c", w="5", y="2")
    assert join_indexes(first, other).ids == ("x", "y", "x", "z")
    with pytest.raises(TeacherIndexError, match=r"c holds 1 images that an index before it holds too \(y\)"):
        join_indexes(first, other, same)
    with pytest.raises(TeacherIndexError, match=r"holds 1 images that an index before it holds too \(x\)"):
        join_indexes(first, replace(other, images_sha256=None))


def test_distractors_follow_the_indexes_that_were_made_as_they_were() -> None:
    single = index_of("a", HALVES)
    several = replace(index_of("A", HALVES, single.ids), scales=PUBLISHED_SCALES)
    further = replace(index_of("b", HALVES), scales=PUBLISHED_SCALES)
    joined = join_fitting([single, several], [further])
    assert [one.first for one in joined] == [single, several]
    assert [one.others for one in joined] == [(), (further,)]
    with pytest.raises(UsageError, match=r"^the index b saw its images otherwise than the index a"):
        join_fitting([single], [further])
    with pytest.raises(UsageError) as refusal:
        join_fitting([], [further])
    assert str(refusal.value) == "`distractors` is b, but there is no index for it to follow; add --index."
