"""The tree drawn at the top of `errors.py`, the exit codes, and the messages that errors build themselves."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from aml_edge import errors
from aml_edge.errors import (
    AmlEdgeError,
    ImageBatchError,
    ImageError,
    MissingExtraError,
    TeacherIndexError,
    UsageError,
    unusable_path,
)

DRAWN_LINE = re.compile(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+Error)\b *(?P<words>.*)$")


def drawn_tree() -> dict[str, tuple[str | None, str]]:
    """Returns name → (parent's name, the words beside it) of the tree in the module's docstring."""
    tree: dict[str, tuple[str | None, str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if drawn := DRAWN_LINE.match(line):
            depth = len(drawn["branch"]) // 4
            path = [*path[:depth], drawn["name"]]
            tree[drawn["name"]] = (path[depth - 1] if depth else None, drawn["words"])
    return tree


def classes() -> dict[str, type[Exception]]:
    """Returns every exception that the module defines."""
    return {
        name: member
        for name, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, Exception) and member.__module__ == errors.__name__
    }


def test_every_error_is_drawn_and_nothing_else() -> None:
    assert set(drawn_tree()) == set(classes())


def test_the_drawn_parents_are_the_real_ones() -> None:
    drawn = {name: parent for name, (parent, _) in drawn_tree().items()}
    real = {name: member.__base__.__name__ for name, member in classes().items() if member.__base__ is not None}
    assert drawn == {**real, "AmlEdgeError": None}
    assert AmlEdgeError.__base__ is Exception


def test_each_drawn_exit_code_is_the_one_of_the_class() -> None:
    codes = {
        name: int(found[1])
        for name, (_, words) in drawn_tree().items()
        if (found := re.match(r"exit code (\d)", words))
    }
    assert codes == {"AmlEdgeError": 1, "UsageError": 2, "VerificationError": 3}
    for name, member in classes().items():
        assert issubclass(member, AmlEdgeError)
        assert member.exit_code == codes.get(name, 1)


def test_not_run_is_neither_a_pass_nor_a_failed_verification() -> None:
    assert errors.VerificationNotRunError.exit_code not in (0, errors.VerificationError.exit_code)
    assert not issubclass(errors.VerificationNotRunError, errors.VerificationError)


def test_a_missing_extra_gives_the_pip_command() -> None:
    error = MissingExtraError("coremltools", "coreml", "the Core ML format")
    assert str(error) == (
        "the Core ML format needs coremltools, which is not installed: pip install 'aml-edge[coreml]'"
    )
    assert (error.package, error.extra) == ("coremltools", "coreml")


def test_a_batch_of_images_lists_them_all_and_says_how_to_go_on() -> None:
    failures = [(Path("a.jpg"), "truncated"), (Path("b.jpg"), "is empty")]
    error = ImageBatchError(failures, 7)
    listed = "  a.jpg: truncated\n  b.jpg: is empty"
    assert str(error) == f"2 of 7 images cannot be read; remove or replace them:\n{listed}"
    assert (error.failures, error.total) == (tuple(failures), 7)
    skippable = ImageBatchError(failures, 7, skippable=True)
    assert str(skippable) == (
        f"2 of 7 images cannot be read; remove or replace them, or pass --skip-unreadable:\n{listed}"
    )


def test_a_path_where_nothing_is_is_wrong_usage(tmp_path: Path) -> None:
    for path, kind, code in ((tmp_path, TeacherIndexError, 1), (tmp_path / "nowhere", UsageError, 2)):
        error = unusable_path(path, "so and so", TeacherIndexError)
        assert (type(error), str(error), error.exit_code) == (kind, "so and so", code)


def test_what_catches_one_image_catches_a_batch() -> None:
    with pytest.raises(ImageError):
        raise ImageBatchError([(Path("a.jpg"), "truncated")], 1)
