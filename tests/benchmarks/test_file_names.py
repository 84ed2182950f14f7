"""Names of files that lie in several folders."""

from __future__ import annotations

from pathlib import Path

from aml_edge.benchmarks.file_names import short_names


def test_a_name_has_as_many_folders_as_tell_all_apart() -> None:
    assert short_names([Path("x/one/a.onnx"), Path("x/b.onnx")]) == {
        Path("x/one/a.onnx"): "a.onnx",
        Path("x/b.onnx"): "b.onnx",
    }
    one, two, other = Path("/x/one/a.onnx"), Path("/x/two/a.onnx"), Path("c/b.onnx")
    assert short_names([one, two, other, one]) == {one: "one/a.onnx", two: "two/a.onnx", other: "c/b.onnx"}


def test_a_path_that_ends_another_is_named_whole() -> None:
    inner, outer = Path("a.onnx"), Path("/a.onnx")
    assert short_names([inner, outer]) == {inner: "a.onnx", outer: "/a.onnx"}
    assert short_names([]) == {}
