"""Parts become one folder, and what a killed process left of that is gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml_edge.datasets.fetch_places import FetchPlaces, merge
from aml_edge.errors import DatasetError


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_parts_become_one_folder(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "whole"
    merge(make(tmp_path / "a", "jpg/1", "jpg/x/2", "list"), target)
    merge(make(tmp_path / "b", "jpg/3", "jpg/x/4"), target)
    assert names(target) == {"jpg/1", "jpg/x/2", "list", "jpg/3", "jpg/x/4"}
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}


def test_a_merge_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    target = make(tmp_path / "whole", "jpg/1", "jpg/2")
    merge(make(tmp_path / "a", "jpg/3"), target)  # 1 and 2 of this part were moved before
    assert names(target) == {"jpg/1", "jpg/2", "jpg/3"}


def test_the_same_file_twice_is_one(tmp_path: Path) -> None:
    target = make(tmp_path / "whole", "jpg/1")
    merge(make(tmp_path / "a", "jpg/1"), target)
    assert names(target) == {"jpg/1"}


@pytest.mark.parametrize(("there", "comes"), [("jpg/1", "jpg/1/2"), ("jpg/1/2", "jpg/1")])
def test_a_file_cannot_be_a_folder_too(tmp_path: Path, there: str, comes: str) -> None:
    target, source = make(tmp_path / "whole", there), make(tmp_path / "a", comes)
    with pytest.raises(DatasetError) as refusal:
        merge(source, target)
    assert str(refusal.value) == (
        f"{source / 'jpg' / '1'} and {target / 'jpg' / '1'} are different files for one place; what was published may "
        "have changed."
    )


def test_cleaning_leaves_archives_records_and_the_data_set(tmp_path: Path) -> None:
    places = FetchPlaces(tmp_path, "set")
    make(places.root, "1")
    make(places.partial, "unpacked/a/1", "unpacked.json")
    make(places.archives, "a.tgz", "a.tgz.json", "train/b.tar.json", ".a.tgz.7.partial.json", ".a.tgz.lock")
    make(places.archives, "a.tgz.partial", "a.tgz.partial.json")
    (places.archives / "empty" / "too").mkdir(parents=True)
    assert places.unfinished
    places.clean()
    assert names(tmp_path) == {
        "set/1", "set.archives/a.tgz", "set.archives/a.tgz.json", "set.archives/train/b.tar.json"
    }  # fmt: skip
    assert not (places.archives / "empty").exists()
    assert not places.unfinished
    places.clean()
