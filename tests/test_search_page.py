"""The page of a search, read by the parser of Python's library: what it shows, and what hostile names become."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aml_edge import search_page
from aml_edge.answers import Answer, Answers, FoundImage
from aml_edge.errors import UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.pixels import Box
from aml_edge.preprocessing import Preprocessing
from aml_edge.query_images import PipedImage
from aml_edge.search_page import PageFacts, PageReport, require_page_size, write_search_page
from aml_edge.space import EmbeddingSpace

VOID = {"meta", "img", "wbr"}
HOSTILE = (
    "../secret.png",
    "/etc/passwd",
    '"><script>alert(1)</script>.png',
    "' onerror='alert(1)",
    "{{ 7 * 7 }}{% for %}",
    "&lt;b&gt; &amp; \u202egnp.exe",
    "javascript:alert(1)",
)


@dataclass
class Element:
    """A tag with its attributes, what is in it, and the text of all of it."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Returns the elements below of a tag whose attributes hold such words."""
        found = []
        for child in self.children:
            words = {name: (child.attributes.get(name) or "").split() for name in attributes}
            if child.tag == tag and all(value in words[name] for name, value in attributes.items()):
                found.append(child)
            found += child.all(tag, **attributes)
        return found


class Tree(HTMLParser):
    """Builds a tree and fails where a tag is not closed, or closed in the wrong order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("root", {})
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of pictures, each of one colour."""
    root = tmp_path / "images"
    (root / "jpg").mkdir(parents=True)
    for number, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 0, 200)]):
        Image.new("RGB", (60, 40), colour).save(root / "jpg" / f"{number}.png")
    Image.new("RGB", (640, 480), (90, 90, 90)).save(tmp_path / "secret.png")
    return root


def facts_of(images: Path, *, k: int = 2, who: str = "file a.onnx, verified") -> PageFacts:
    space = EmbeddingSpace("toy", "0" * 64, 2)
    index = TeacherIndex(Path("ix"), space, Preprocessing(8), ("a", "b", "c"), np.zeros((3, 2), np.float32), None)
    return PageFacts(who, index, images, k, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "0.1.0")


def answers_of(queries: list[ImageItem], *ids: str) -> Answers:
    found = tuple(FoundImage(rank, one, 1 - rank / 16) for rank, one in enumerate(ids, start=1))
    return Answers(tuple(queries), tuple(Answer(item.path, found) for item in queries), ())


def written(tmp_path: Path, answers: Answers, facts: PageFacts) -> tuple[Element, PageReport]:
    report = write_search_page(tmp_path / "page.html", answers, facts)
    return Tree((tmp_path / "page.html").read_text(encoding="utf-8")).root, report


def pixel(image: Element) -> tuple[int, ...]:
    """Returns the middle pixel of an embedded picture."""
    source = image.attributes["src"]
    assert source is not None
    kind, _, content = source.partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert picture.size == (int(image.attributes["width"] or 0), int(image.attributes["height"] or 0))
    return tuple(np.asarray(picture.convert("RGB"))[picture.height // 2, picture.width // 2].tolist())


def test_it_shows_queries_and_what_they_found(tmp_path: Path, images: Path) -> None:
    queries = [ImageItem(tmp_path / "secret.png"), ImageItem(images / "jpg" / "0.png")]
    page, report = written(tmp_path, answers_of(queries, "jpg/1.png", "jpg/2.png"), facts_of(images))
    assert [one.text for one in page.all("title")] == [one.text for one in page.all("h1")] == ["What 2 images find"]
    sections = page.all("section")
    assert [link.attributes["href"] for link in page.all("nav")[0].all("a")] == ["#query-1", "#query-2"]
    assert [section.attributes["id"] for section in sections] == ["query-1", "query-2"]
    for section, query, grey in zip(sections, queries, [(90, 90, 90), (200, 0, 0)], strict=True):
        assert section.all("h2")[0].text == str(query.path)
        (picture,) = section.all("div", **{"class": "query"})[0].all("img")
        assert np.abs(np.subtract(pixel(picture), grey)).max() <= 3  # JPEG
        assert picture.attributes["alt"] == f"The query {query.path}"
        first, second = section.all("ol")[0].all("li")
        for one, rank, colour, cosine in ((first, 1, (0, 200, 0), "0.9375"), (second, 2, (0, 0, 200), "0.8750")):
            assert one.text.split() == [str(rank), "cos", cosine, f"jpg/{rank}.png"]
            assert one.all("img")[0].attributes["alt"] == f"Found at rank {rank}: jpg/{rank}.png"
            assert np.abs(np.subtract(pixel(one.all("img")[0]), colour)).max() <= 3
    assert (report.found, report.pictures, report.missing) == (4, 4, ())
    assert report.size_bytes == (tmp_path / "page.html").stat().st_size


def test_it_says_what_it_is_of(tmp_path: Path, images: Path) -> None:
    answers = answers_of([ImageItem(images / "jpg" / "0.png")], "jpg/1.png")
    page, _ = written(tmp_path, answers, facts_of(images))
    (head,) = page.all("dl")
    assert [(one.text, other.text) for one, other in zip(head.all("dt"), head.all("dd"), strict=True)] == [
        ("Queries by", "file a.onnx, verified"),
        ("Index", "ix, 3 images"),
        ("Space", "toy (00000000), 2-D, no whitening"),
        ("Pictures", str(images)),
        ("Found", "2 for each query, by the cosine (cos) to it"),
        ("Made", "2026-01-02 03:04 UTC, aml-edge 0.1.0"),
    ]
    assert page.all("time")[0].attributes == {"datetime": "2026-01-02T03:04:05+00:00"}
    assert page.all("h1")[0].text == "What 0.png finds"
    assert not page.all("nav")


def test_it_asks_no_network_and_runs_nothing(tmp_path: Path, images: Path) -> None:
    answers = answers_of([ImageItem(images / "jpg" / "0.png")], "jpg/1.png", *HOSTILE)
    page, _ = written(tmp_path, answers, facts_of(images))
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not any(page.all(tag) for tag in ("script", "link", "iframe", "object", "form", "base", "svg"))
    for image in page.all("img"):
        assert set(image.attributes) == {"src", "width", "height", "alt"}
        assert (image.attributes["src"] or "").startswith("data:image/jpeg;base64,")
    style = page.all("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    assert "http:" not in (text := (tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "https:" not in text


def test_hostile_ids_are_text_and_lead_nowhere(tmp_path: Path, images: Path) -> None:
    page, report = written(tmp_path, answers_of([ImageItem(images / "jpg" / "0.png")], *HOSTILE), facts_of(images))
    shown = page.all("ol", **{"class": "found"})[0].all("li")
    assert [one.all("span", **{"class": "id"})[0].text.strip() for one in shown] == [
        one.replace("\u202e", "\ufffd") for one in HOSTILE
    ]
    assert [one.all("img") for one in shown] == [[]] * len(HOSTILE)
    assert [name for name, _ in report.missing] == list(HOSTILE)
    assert report.pictures == 0
    reasons = {one.all("p")[0].text for one in shown[:2]}
    assert reasons == {"No picture: its id is no path inside the folder of images"}


def test_hostile_names_of_queries_are_text(tmp_path: Path, images: Path) -> None:
    query = ImageItem(tmp_path / '"><script>alert(1)\x1b.png')
    Image.new("RGB", (9, 9)).save(query.path)
    page, _ = written(tmp_path, answers_of([query], "jpg/1.png"), facts_of(images, who="<img src=x>"))
    assert page.all("h1")[0].text == 'What "><script>alert(1)\ufffd.png finds'
    assert page.all("dd")[0].text == "<img src=x>"
    assert not page.all("script")


def test_missing_pictures_have_a_place_and_are_counted(tmp_path: Path, images: Path) -> None:
    (images / "broken.png").write_bytes(b"no")
    queries = [ImageItem(images / "jpg" / "0.png")] * 2
    page, report = written(tmp_path, answers_of(queries, "jpg/1.png", "gone.png", "broken.png"), facts_of(images))
    shown = page.all("ol", **{"class": "found"})[0].all("li")
    assert [one.text.split()[-1] for one in shown] == ["jpg/1.png", "gone.png", "broken.png"]
    assert [[paragraph.text for paragraph in one.all("p")] for one in shown] == [
        [],
        ["No picture: there is no such file"],
        ["No picture: it is no image, or of a format that is not read"],
    ]
    assert page.all("footer")[0].text.strip().startswith("4 of 6 found pictures cannot be shown")
    assert report.pictures == 2
    assert report.missing == (
        ("gone.png", "there is no such file"),
        ("broken.png", "it is no image, or of a format that is not read"),
    )


def test_the_query_s_own_picture_may_be_gone(tmp_path: Path, images: Path) -> None:
    page, report = written(
        tmp_path, answers_of([ImageItem(Path("gone.png"), (0, 0, 1, 1))], "jpg/1.png"), facts_of(images)
    )
    assert page.all("div", **{"class": "query"})[0].all("p")[0].text == "No picture: there is no such file"
    assert report.pictures == 1


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((160, 120, 480, 360), "left: 25.00%; top: 25.00%; width: 50.00%; height: 50.00%"),
        ((-50, 240, 9999, 9999), "left: 0.00%; top: 50.00%; width: 100.00%; height: 50.00%"),
    ],
)
def test_the_box_lies_over_the_whole_query(tmp_path: Path, images: Path, box: Box, share: str) -> None:
    page, _ = written(tmp_path, answers_of([ImageItem(tmp_path / "secret.png", box)], "jpg/1.png"), facts_of(images))
    assert [one.attributes["style"] for one in page.all("div", **{"class": "box"})] == [share]
    assert page.all("img")[0].attributes["width"] == "320"


def test_a_query_may_find_nothing(tmp_path: Path, images: Path) -> None:
    page, report = written(tmp_path, answers_of([ImageItem(images / "jpg" / "0.png")]), facts_of(images))
    assert [one.text for one in page.all("li")] == ["Nothing was found."]
    assert (report.found, report.pictures) == (0, 0)


def test_an_image_of_standard_input_is_called_so(tmp_path: Path, images: Path) -> None:
    query = ImageItem(Path("-"), stored=PipedImage((images / "jpg" / "0.png").read_bytes()))
    page, _ = written(tmp_path, answers_of([query], "jpg/1.png"), facts_of(images))
    assert page.all("h1")[0].text == "What the image of standard input finds"
    assert page.all("h2")[0].text == "standard input"
    assert pixel(page.all("img")[0])[0] > 190


def test_progress_counts_pictures(tmp_path: Path, images: Path, progress: Any) -> None:
    answers = answers_of([ImageItem(images / "jpg" / "0.png")] * 3, "jpg/1.png", "gone.png")
    write_search_page(tmp_path / "page.html", answers, facts_of(images), progress=progress)
    assert (progress.announced, progress.done) == ([("pictures", 9)], 9)


def test_a_page_that_breaks_off_leaves_the_old_one(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.html").write_text("the old one")

    def breaks(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_page, "thumbnail_of", breaks)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, answers_of([ImageItem(images / "jpg" / "0.png")], "jpg/1.png"), facts_of(images))
    assert (tmp_path / "page.html").read_text() == "the old one"
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_page_that_no_one_could_look_at_is_refused_first() -> None:
    require_page_size(454, 10)  # 4994 pictures
    with pytest.raises(UsageError) as refusal:
        require_page_size(455, 10)
    assert re.sub(r"\s+", " ", str(refusal.value)) == (
        "`html` would be a page of 5005 pictures, 455 queries with 10 found images each, and holds at most 5000; give "
        "fewer images or a smaller -k, or take --json."
    )
