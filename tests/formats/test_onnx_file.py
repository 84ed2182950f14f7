"""ONNX files made by onnx itself: manifest, census, damage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aml_edge.errors import ArtifactError
from aml_edge.formats import onnx_file


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A transpose, and an `if` with a relu in one branch and a matrix in the other; metadata of another tool."""
    weight = numpy_helper.from_array(np.ones((2, 3), np.float16), "weight")
    inner_weight = numpy_helper.from_array(np.ones(5, np.float32), "inner")
    shape = helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3])
    then = helper.make_graph(
        [helper.make_node("Relu", ["turned"], ["then_out"])],
        "then",
        [],
        [helper.make_tensor_value_info("then_out", TensorProto.FLOAT, [3, 2])],
    )
    otherwise = helper.make_graph(
        [helper.make_node("Identity", ["turned"], ["else_out"])],
        "otherwise",
        [],
        [helper.make_tensor_value_info("else_out", TensorProto.FLOAT, [3, 2])],
        initializer=[inner_weight],
    )
    constant = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    turn = helper.make_node("Transpose", ["image"], ["turned"], perm=[1, 0])
    branch = helper.make_node("If", ["yes"], ["result"], then_branch=then, else_branch=otherwise)
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [3, 2])
    graph = helper.make_graph([constant, turn, branch], "graph", [shape], [result], initializer=[weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.metadata_props.add(key="author", value="another tool")
    onnx.checker.check_model(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_without_manifest_says_none(model_file: Path) -> None:
    assert onnx_file.read_manifest(model_file) is None


def test_manifest_survives_and_is_replaced(model_file: Path) -> None:
    onnx_file.write_manifest(model_file, '{"space": "a long first manifest"}')
    onnx_file.write_manifest(model_file, "{}")
    assert onnx_file.read_manifest(model_file) == "{}"
    model = onnx.load(model_file)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "author": "another tool",
        "aml-edge.manifest": "{}",
    }


def test_the_content_is_the_file_without_its_manifest(model_file: Path) -> None:
    plain = hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert onnx_file.hash_content(model_file) == plain
    for text in ("a", "b" * 9000, ""):
        onnx_file.write_manifest(model_file, text)
        assert onnx_file.hash_content(model_file) == plain


def set_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-1] + b"\x01"


def set_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute[0].ints[:] = [0, 1]


def set_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "someone else"


@pytest.mark.parametrize("change", [set_weight, set_attribute, set_metadata])
def test_another_content_has_another_hash(model_file: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    onnx_file.write_manifest(model_file, "manifest")
    before = onnx_file.hash_content(model_file)
    model = onnx.load(model_file)
    change(model)
    model_file.write_bytes(model.SerializeToString())
    assert onnx_file.read_manifest(model_file) == "manifest"
    assert onnx_file.hash_content(model_file) != before


@pytest.mark.parametrize("content", [b"\x80", None])
def test_a_file_that_cannot_be_hashed_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"broken\.onnx is not an ONNX file that can be read: .*; export it again"):
        onnx_file.hash_content(path)


def test_census_counts_subgraphs_and_leaves_constants_out(model_file: Path) -> None:
    census = onnx_file.take_census(model_file)
    assert census.operators == {"Transpose": 1, "If": 1, "Relu": 1, "Identity": 1}
    assert census.weight_values == {"float16": 6, "float32": 5}
    assert census.transposes == 1


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not an onnx file", b"\xff" * 100])
def test_what_is_no_onnx_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"broken\.onnx is not an ONNX file.*export it again"):
        onnx_file.read_manifest(path)


def test_a_cut_file_is_an_error_or_has_no_manifest(model_file: Path) -> None:
    onnx_file.write_manifest(model_file, "manifest")
    whole = model_file.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        model_file.write_bytes(whole[:length])
        try:
            assert onnx_file.read_manifest(model_file) is None
        except ArtifactError:
            continue


def test_functions_are_counted(model_file: Path) -> None:
    model = onnx.load(model_file)
    body = [helper.make_node("Exp", ["x"], ["y"]), helper.make_node("Transpose", ["y"], ["z"])]
    model.functions.append(helper.make_function("ours", "f", ["x"], ["z"], body, [helper.make_opsetid("", 20)]))
    model_file.write_bytes(model.SerializeToString())
    census = onnx_file.take_census(model_file)
    assert census.operators == {"Transpose": 2, "If": 1, "Relu": 1, "Identity": 1, "Exp": 1}
    assert census.transposes == 2


def test_a_dtype_that_onnx_does_not_have_is_named(model_file: Path) -> None:
    model = onnx.load(model_file)
    model.graph.initializer[0].data_type = 99
    model_file.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="has an initialiser 'weight' of dtype 99, which ONNX does not have"):
        onnx_file.take_census(model_file)
