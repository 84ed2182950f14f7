"""Text of foreign files, such as ids of an index, made safe to show in a terminal or on a page."""

from __future__ import annotations

import re

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which a terminal obeys; marks of writing direction, which make a name look like another one;
halves of characters, which cannot be written."""


def printable(text: str) -> str:
    """Returns a text of one line in which each such character is the replacement character, U+FFFD."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)
