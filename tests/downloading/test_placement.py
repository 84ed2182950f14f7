"""Where the members of published archives go."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from aml_edge.downloading.archive_members import MemberRefusedError, safe_parts
from aml_edge.downloading.placement import Placement


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a.jpg",)),
        ("./a//b/./c.jpg", ("a", "b", "c.jpg")),
        ("./", ()),
        ("été/...jpg", ("été", "...jpg")),
        ("n" * 255, ("n" * 255,)),
    ],
)
def test_honest_names_are_taken_apart(name: str, parts: tuple[str, ...]) -> None:
    assert safe_parts(name) == parts


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("/etc/passwd", "has an absolute path"),
        ("//a", "has an absolute path"),
        ("../a", "leads out of its folder"),
        ("a/b/../../../c", "leads out of its folder"),
        ("a/..", "leads out of its folder"),
        ("..\\a", "has a name with a character that no file of a data set has"),
        ("C:a", "has a name with a character that no file of a data set has"),
        ("a\nb", "has a name with a character that no file of a data set has"),
        ("a\x1b[2J", "has a name with a character that no file of a data set has"),
        ("a\0b", "has a name with a character that no file of a data set has"),
        ("a\udc80", "has a name with a character that no file of a data set has"),
        ("n" * 256, "has a name that is too long"),
        ("é" * 128, "has a name that is too long"),
        ("a/" * 33 + "b", "has a name that is too long"),
    ],
)
def test_other_names_are_refused(name: str, rule: str) -> None:
    with pytest.raises(MemberRefusedError) as refusal:
        safe_parts(name)
    assert (refusal.value.member, refusal.value.rule) == (name, rule)


@pytest.mark.parametrize(
    ("placement", "name", "place"),
    [
        (Placement(), "a/b.jpg", "a/b.jpg"),
        (Placement("ims"), "12/34/a", "ims/12/34/a"),
        (Placement("jpg", flat=True), "paris/defense/b.jpg", "jpg/b.jpg"),
        (Placement("jpg", flat=True, suffixes=(".jpg",)), "paris/b.JPG", "jpg/b.JPG"),
        (Placement("jpg", flat=True, suffixes=(".jpg",)), "paris/readme.txt", None),
        (Placement(strip=1), "CUB_200_2011/images/b.jpg", "images/b.jpg"),
        (Placement(strip=1), "attributes.txt", None),
        (Placement(), "__MACOSX/a/b.jpg", None),
        (Placement(flat=True), "a/._b.jpg", None),
        (Placement(), "a/.DS_Store", None),
    ],
)
def test_places(placement: Placement, name: str, place: str | None) -> None:
    assert placement.place_of(tuple(name.split("/"))) == (None if place is None else PurePosixPath(place))
