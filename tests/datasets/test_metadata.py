"""Names that leave a folder, on any system, and names that do not."""

from __future__ import annotations

import pytest

from aml_edge.datasets.metadata import is_listable, stays_inside


@pytest.mark.parametrize("name", ["a", "a.b", "a/b", "a b", "..a", "a..", "a/..b/c", "-", "ä/写", "...", "a//b", "./a"])
def test_names_inside(name: str) -> None:
    assert stays_inside(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "./.",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "/",
        "/a",
        "//a",
        "\\a",
        "a\\..\\b",
        "c:",
        "c:/a",
        "a\n",
        "\0",
        "\ud800",
    ],
)
def test_names_that_leave(name: str) -> None:
    assert not stays_inside(name)


def test_lines_of_a_list() -> None:
    assert is_listable("a\u00a0b\u202fc")
    unlistable = [chr(code) for code in range(0x2100) if not is_listable(chr(code))]
    assert unlistable == [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
    assert all(sign in unlistable for sign in map(chr, range(0x10000)) if len(f"a{sign}b".splitlines()) > 1)
