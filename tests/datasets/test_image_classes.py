"""Pairs, ground truth and held-out classes made of images that each belong to one class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.datasets.file_items import FileItems
from aml_edge.datasets.held_out_classes import hold_out_classes
from aml_edge.datasets.image_classes import ClassGroundTruth, labels_of_classes
from aml_edge.datasets.labelled_images import LabelledImages
from aml_edge.image_loading import ImageItem

CLASSES = st.lists(st.integers(0, 5), max_size=30)


@settings(max_examples=60, deadline=None)
@given(classes=CLASSES, seed=st.integers(0, 3))
def test_each_image_with_company_is_a_query_with_another_of_its_class(classes: list[int], seed: int) -> None:
    labels = labels_of_classes(classes, seed)
    sizes = Counter(classes)
    assert labels.clusters == tuple(classes)
    assert labels.query_rows == tuple(row for row, number in enumerate(classes) if sizes[number] > 1)
    for query, positive in zip(labels.query_rows, labels.positive_rows, strict=True):
        assert query != positive
        assert classes[query] == classes[positive]
    assert labels == labels_of_classes(classes, seed)


def test_a_positive_is_any_other_image_of_the_class() -> None:
    """Of four images each of three others is drawn a third of the time; 0.05 is five standard deviations of 3000."""
    drawn: Counter[tuple[int, int]] = Counter()
    for seed in range(3000):
        labels = labels_of_classes([4, 4, 4, 4], seed)
        drawn.update(zip(labels.query_rows, labels.positive_rows, strict=True))
    assert len(drawn) == 12
    assert all(abs(count / 3000 - 1 / 3) < 0.05 for count in drawn.values())


@settings(max_examples=60, deadline=None)
@given(classes=CLASSES)
def test_each_image_asks_all_others(classes: list[int]) -> None:
    truth = ClassGroundTruth(classes)
    assert len(truth) == len(classes)
    assert sorted(truth.class_sizes) == sorted(Counter(classes).values())
    for query, answer in enumerate(truth):
        others = [row for row, number in enumerate(classes) if number == classes[query] and row != query]
        assert (list(answer.easy), answer.hard, answer.junk) == (others, (), (query,))


def images(count: int, of_each: int, *, lazy: bool = False) -> LabelledImages:
    ids = tuple(f"{number}/{place}.jpg" for number in range(count) for place in range(of_each))
    items = FileItems(Path("data"), ids) if lazy else tuple(ImageItem(Path("data") / one) for one in ids)
    return LabelledImages(ids, items, labels_of_classes([int(one.split("/")[0]) for one in ids]))


def test_a_tenth_of_the_classes_is_held_out_whole() -> None:
    for lazy in (False, True):
        whole = images(95, 3, lazy=lazy)
        parts = hold_out_classes(whole)
        assert parts.validation is not None
        held_out, learned = parts.validation, parts.training
        assert (len(held_out.ids), len(learned.ids)) == (9 * 3, 86 * 3)
        assert sorted(held_out.ids + learned.ids) == sorted(whole.ids)
        for part in (held_out, learned):
            assert [str(item.path) for item in part.items] == [f"data/{one}" for one in part.ids]
            assert part.labels is not None
            assert part.labels.clusters == tuple(int(one.split("/")[0]) for one in part.ids)
            assert len(part.labels.query_rows) == len(part.ids)
        again = hold_out_classes(images(95, 3)).validation
        assert again is not None
        assert again.ids == held_out.ids


def test_few_classes_are_all_learned_from() -> None:
    whole = images(79, 2)
    parts = hold_out_classes(whole)
    assert (parts.training, parts.validation) == (whole, None)
    assert hold_out_classes(images(80, 2)).validation is not None


def test_of_many_classes_five_hundred_are_enough() -> None:
    parts = hold_out_classes(images(6000, 1))
    assert parts.validation is not None
    assert len(parts.validation.ids) == 500
