"""Options of the commands that verify: which images they find, and that every tolerance can be set."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from aml_edge.cli.option_groups import with_option_groups
from aml_edge.cli.verification_options import ImageOptions, JudgedSearchOptions, ToleranceOptions
from aml_edge.errors import DatasetError, UsageError
from aml_edge.exporters.tolerances import Tolerances
from aml_edge.exporters.verification_images import DEFAULT_MOST_IMAGES
from aml_edge.progress import SilentProgress


def test_every_tolerance_has_an_option_that_leaves_it_as_it_is() -> None:
    of_search = JudgedSearchOptions().tolerances()
    names = [*(field.name for field in fields(ToleranceOptions)), *of_search]
    assert names == [field.name for field in fields(Tolerances)]
    assert set((asdict(ToleranceOptions()) | of_search).values()) == {None}


@pytest.mark.parametrize("name", [field.name for field in fields(Tolerances)])
def test_each_option_sets_its_own_tolerance(name: str) -> None:
    seen: list[dict[str, Any]] = []
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def command(*, tolerances: ToleranceOptions, search: JudgedSearchOptions) -> None:
        values = asdict(tolerances) | search.tolerances()
        seen.append({key: value for key, value in values.items() if value is not None})

    result = CliRunner().invoke(app, [f"--{name.replace('_', '-')}", "0.25", "--ann", "Flat"])
    assert result.exit_code == 0, result.output
    assert seen == [{name: 0.25}]


def test_a_data_set_gives_its_queries_and_ground_truth(blobs: Path) -> None:
    found = ImageOptions(dataset=blobs).find(SilentProgress())
    assert found is not None
    assert (found.source, len(found.queries), len(found.others), len(found.ground_truth)) == ("toy", 6, 24, 6)


def test_a_folder_gives_images_without_ground_truth(blobs: Path) -> None:
    found = ImageOptions(images=blobs / "jpg").find(SilentProgress())
    assert found is not None
    assert (found.source, len(found.queries), len(found.others)) == (str(blobs / "jpg"), 0, 30)


def test_a_data_set_named_as_a_folder_has_the_ids_of_its_index(blobs: Path) -> None:
    found = ImageOptions(images=blobs).find(SilentProgress())
    assert found is not None
    assert (found.other_ids[0], len(found.other_ids)) == ("jpg/view_00.jpg", 24)


def test_the_number_of_images_can_be_set(blobs: Path) -> None:
    assert DEFAULT_MOST_IMAGES == 128  # the help says so
    found = ImageOptions(dataset=blobs, max_images=10).find(SilentProgress())
    assert found is not None
    assert (len(found.queries), len(found.others)) == (6, 10)


@pytest.mark.parametrize(
    ("given", "said"),
    [("dataset", "give 10 or more beside the 6 queries of the data set"), ("images", "give 16 or more")],
)
def test_fewer_images_than_prove_anything_are_refused(blobs: Path, given: str, said: str) -> None:
    options = ImageOptions(max_images=9, **{given: blobs})  # type: ignore[arg-type]
    with pytest.raises(UsageError) as refusal:
        options.find(SilentProgress())
    assert str(refusal.value) == (
        f"`max_images` is 9; a verification takes at least 16 images, so {said}, or leave it out."
    )


def test_none_named_gives_none() -> None:
    assert ImageOptions().find(SilentProgress()) is None


def test_both_named_are_refused(blobs: Path) -> None:
    with pytest.raises(UsageError, match=r"`dataset` is a and `images` is b; name one of them\."):
        ImageOptions(dataset=Path("a"), images=Path("b")).find(SilentProgress())


def test_a_folder_without_ground_truth_is_no_data_set(blobs: Path) -> None:
    with pytest.raises(DatasetError, match=r"jpg holds no test set: no files of a known layout, nor each image in"):
        ImageOptions(dataset=blobs / "jpg").find(SilentProgress())


def test_unreadable_images_stay_until_told_otherwise(tmp_path: Path, blobs: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes((blobs / "jpg" / f"view_{number:02}.jpg").read_bytes())
    (tmp_path / "1.jpg").write_bytes(b"")
    kept = ImageOptions(images=tmp_path).find(SilentProgress())
    left = ImageOptions(images=tmp_path, skip_unreadable=True).find(SilentProgress())
    assert kept is not None and left is not None
    assert (kept.other_ids, kept.unreadable) == (("0.jpg", "1.jpg", "2.jpg"), ())
    assert left.other_ids == ("0.jpg", "2.jpg")
    ((path, reason),) = left.unreadable
    assert path == str(tmp_path / "1.jpg")
    assert "empty" in reason
