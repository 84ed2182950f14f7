"""What of a foreign name reaches a terminal or a page."""

from __future__ import annotations

import pytest

from aml_edge.printable import printable


@pytest.mark.parametrize("text", ["jpg/view 1.jpg", "Zürich/雪　山.jpg", "👩‍🌾.png", "<b>'\"&"])
def test_names_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    "character", ["\x00", "\t", "\n", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\udc80"]
)
def test_what_a_terminal_obeys_or_a_reader_does_not_see_is_replaced(character: str) -> None:
    assert printable(f"a{character}b") == "a\ufffdb"
