"""Scales as text, as JSON and as numbers: what is read, and what is refused in one line."""

from __future__ import annotations

import json
import math

import pytest

from aml_edge.errors import UsageError
from aml_edge.scales import PUBLISHED_SCALES, describe_scales, require_scales, scales_from_json, scales_of


def test_the_published_ones_are_the_paper_s() -> None:
    assert PUBLISHED_SCALES == (1, 1 / math.sqrt(2), 1 / 2)
    assert scales_of("published") == PUBLISHED_SCALES


def test_text_is_read_in_its_order() -> None:
    assert scales_of("1") == (1.0,)
    assert scales_of("0.5, 1,4") == (0.5, 1.0, 4.0)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "abc", "", " ", "1,", "1;0.5", "4.01", "1,1", "1,0"])
def test_what_cannot_be_scales_is_refused_as_it_was_given(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        scales_of(text)
    assert str(refusal.value) == (
        f"`scales` is {text!r}; they must be numbers above 0, at most 4, each once: give 1,0.7071,0.5 or published."
    )


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, math.nan), (1.0, 0.5, 1.0)])
def test_numbers_that_cannot_be_scales_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="they must be numbers above 0, at most 4, each once"):
        require_scales(scales)


def test_json_gives_back_every_bit() -> None:
    assert scales_from_json(json.loads(json.dumps(list(PUBLISHED_SCALES)))) == PUBLISHED_SCALES
    assert scales_from_json([1]) == (1.0,)


@pytest.mark.parametrize("value", ["1", None, ["1"], [True], {"1": 1}])
def test_json_of_another_kind_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="its scales are not a list of numbers"):
        scales_from_json(value)


def test_json_of_no_scale_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^`scales` is \[\]; "):
        scales_from_json([])


def test_they_are_said_in_few_digits() -> None:
    assert describe_scales(PUBLISHED_SCALES) == "1, 0.7071, 0.5"
    assert describe_scales((1.0,)) == "1"
