"""TFLite files: the manifest beside content that must not change, judged by LiteRT's own schema and interpreter."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.errors import ArtifactError
from aml_edge.formats import tflite_file
from aml_edge.formats.census import OperatorCensus
from aml_edge.native_output import output_discarded

pytest.importorskip("ai_edge_litert", reason="the extra 'tflite' is not installed")

CHANNEL_MEANS = Path(__file__).parents[1] / "data" / "channel_means.tflite"
"""(1, 40, 40, 3) uint8 → L2 of (channel means + 1), converted by litert-torch 0.10."""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    shutil.copy(CHANNEL_MEANS, path)
    return path


def parsed(path: Path) -> Any:
    """Returns LiteRT's own view of a file."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))


def run(path: Path) -> npt.NDArray[np.float32]:
    """Returns what LiteRT computes for one image."""
    from ai_edge_litert.interpreter import Interpreter

    with output_discarded():
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    embeddings: npt.NDArray[np.float32] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return embeddings


def with_outside_buffers(path: Path) -> None:
    """Rewrites a file as the quantizer does: its buffers after the FlatBuffer, found by position."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = parsed(path)
    contents = {number: bytes(buffer.data) for number, buffer in enumerate(model.buffers) if buffer.data is not None}
    for number in contents:
        model.buffers[number].data, model.buffers[number].offset, model.buffers[number].size = None, 2, 2

    def packed() -> bytes:
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    end = -(-len(packed()) // 16) * 16
    for number, content in contents.items():
        model.buffers[number].offset, model.buffers[number].size = end, len(content)
        end += -(-len(content) // 16) * 16
    whole = bytearray(packed()).ljust(end, b"\0")
    for number, content in contents.items():
        start = model.buffers[number].offset
        whole[start : start + len(content)] = content
    path.write_bytes(whole)
    assert schema.Model.GetRootAs(whole, 0).BuffersLength() == len(model.buffers)


def test_a_file_without_manifest_says_none(model_file: Path) -> None:
    assert tflite_file.read_manifest(model_file) is None


def test_manifest_survives(model_file: Path) -> None:
    text = '{"student": "demo", "reason": "ünïcode"}'
    tflite_file.write_manifest(model_file, text)
    assert tflite_file.read_manifest(model_file) == text


def test_litert_sees_the_manifest_and_everything_else_unchanged(model_file: Path) -> None:
    before = parsed(model_file)
    tflite_file.write_manifest(model_file, "the manifest")
    after = parsed(model_file)
    assert [entry.name for entry in after.metadata] == [entry.name for entry in before.metadata] + [
        b"aml-edge.manifest"
    ]
    assert bytes(after.buffers[after.metadata[-1].buffer].data).decode().rstrip() == "the manifest"
    assert [None if b.data is None else bytes(b.data) for b in after.buffers[:-1]] == [
        None if b.data is None else bytes(b.data) for b in before.buffers
    ]
    assert after.version == before.version
    assert after.description == before.description
    assert [signature.signatureKey for signature in after.signatureDefs] == [b"serving_default"]
    assert len(after.subgraphs[0].operators) == len(before.subgraphs[0].operators)


@pytest.mark.parametrize("outside", [False, True], ids=["buffers inside", "buffers outside"])
def test_the_file_computes_the_same(model_file: Path, outside: bool) -> None:
    expected = run(model_file)
    if outside:
        with_outside_buffers(model_file)
        assert np.array_equal(run(model_file), expected)
    for text in ("short", "x" * 5000, "y" * 9000):
        tflite_file.write_manifest(model_file, text)
        assert tflite_file.read_manifest(model_file) == text
        assert np.array_equal(run(model_file), expected)


def test_weights_keep_their_alignment(model_file: Path) -> None:
    old = model_file.read_bytes()
    tflite_file.write_manifest(model_file, "manifest")
    new = model_file.read_bytes()
    assert (len(new) - len(old)) % 64 == 0
    assert new.endswith(old[8:])  # nothing but the root before them is new


@pytest.mark.parametrize("outside", [False, True], ids=["buffers inside", "buffers outside"])
def test_the_content_is_the_file_without_its_manifest(model_file: Path, outside: bool) -> None:
    if outside:
        with_outside_buffers(model_file)
    assert tflite_file.hash_content(model_file) == hashlib.sha256(model_file.read_bytes()).hexdigest()
    tflite_file.write_manifest(model_file, "never verified")
    written = tflite_file.hash_content(model_file)
    whole = model_file.read_bytes()
    start = whole.index(b"never verified")
    assert written == hashlib.sha256(whole[:start] + whole[start + 4096 :]).hexdigest()
    tflite_file.write_manifest(model_file, "verified" * 500)
    assert tflite_file.hash_content(model_file) == written  # of as many pages


def test_a_byte_that_changes_outside_of_the_manifest_changes_the_content(model_file: Path) -> None:
    tflite_file.write_manifest(model_file, "manifest")
    before, whole = tflite_file.hash_content(model_file), model_file.read_bytes()
    start = whole.index(b"manifest ")
    changed = 0
    for place in range(start + 4096, len(whole), 61):
        model_file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert tflite_file.hash_content(model_file) != before
            changed += 1
        except ArtifactError:  # the byte led to somewhere
            continue
    assert changed > 20
    model_file.write_bytes(whole[:start] + b"Manifest" + whole[start + 8 :])
    assert tflite_file.hash_content(model_file) == before


def test_a_later_manifest_takes_the_place_of_the_first(model_file: Path) -> None:
    tflite_file.write_manifest(model_file, "never verified")
    size = model_file.stat().st_size
    tflite_file.write_manifest(model_file, "verified, on 100 photographs")
    assert model_file.stat().st_size == size
    assert tflite_file.read_manifest(model_file) == "verified, on 100 photographs"


def test_a_manifest_that_outgrows_its_room_stays_the_only_one(model_file: Path) -> None:
    tflite_file.write_manifest(model_file, "first")
    tflite_file.write_manifest(model_file, "second" * 1000)
    names = [entry.name for entry in parsed(model_file).metadata]
    assert names.count(b"aml-edge.manifest") == 1
    assert tflite_file.read_manifest(model_file) == "second" * 1000


def test_census_equals_litert_s_own_view(model_file: Path) -> None:
    census = tflite_file.take_census(model_file)
    model = parsed(model_file)
    assert sum(census.operators.values()) == len(model.subgraphs[0].operators)
    assert census.operators["CAST"] == 1
    assert census.operators["MEAN"] == 1
    assert census.transposes == 0
    constants = [tensor for tensor in model.subgraphs[0].tensors if model.buffers[tensor.buffer].data is not None]
    floats = {tensor.buffer: int(np.prod(tensor.shape)) for tensor in constants if tensor.type == 0}
    assert census.weight_values["float32"] == sum(floats.values())


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x00" * 64, b"\x10\x00\x00\x00TFL3" + b"\xff" * 100, b"PK" * 50])
def test_what_is_no_tflite_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    for read in (tflite_file.read_manifest, tflite_file.take_census):
        with pytest.raises(ArtifactError, match=r"broken\.tflite is not a TFLite file.*export it again"):
            read(path)
    with pytest.raises(ArtifactError):
        tflite_file.write_manifest(path, "manifest")
    assert path.read_bytes() == content


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.tflite cannot be read: No such file"):
        tflite_file.read_manifest(tmp_path / "absent.tflite")


@pytest.mark.timeout(60)  # a hostile file must fail, not hang
def test_damage_anywhere_gives_an_answer_or_our_error_soon(model_file: Path) -> None:
    tflite_file.write_manifest(model_file, "manifest")
    whole, chance = model_file.read_bytes(), random.Random(0)
    damaged = [whole[:length] for length in range(0, len(whole), 401)]
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            position = chance.choice((chance.randrange(256), chance.randrange(4352, len(content))))
            content[position] = chance.randrange(256)
        damaged.append(bytes(content))
    for candidate in damaged:
        model_file.write_bytes(candidate)
        for act in (
            tflite_file.read_manifest,
            tflite_file.hash_content,
            tflite_file.take_census,
            lambda path: tflite_file.write_manifest(path, "z" * 5000),
        ):
            try:
                act(model_file)
            except ArtifactError:
                continue


def counted(folder: Path, types: list[str], operators: list[tuple[str, list[int], list[int]]]) -> OperatorCensus:
    """Returns the census of a file of tensors of these types, each of 2 × 3 values that the file holds."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    names = sorted({name for name, _, _ in operators})
    codes = [vars(schema.BuiltinOperator)[name] for name in names]
    model, subgraph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs = 3, [subgraph]
    model.operatorCodes = []
    for code in codes:
        entry = schema.OperatorCodeT()
        entry.deprecatedBuiltinCode, entry.builtinCode = min(code, 127), code
        model.operatorCodes.append(entry)
    model.buffers = [schema.BufferT() for _ in range(len(types) + 1)]
    subgraph.tensors, subgraph.operators = [], []
    for number, dtype in enumerate(types):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"t{number}".encode(), [2, 3], number + 1
        tensor.type = vars(schema.TensorType)[dtype]
        model.buffers[number + 1].data = np.zeros(6, np.uint8)
        subgraph.tensors.append(tensor)
    for name, inputs, outputs in operators:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = names.index(name), inputs, outputs
        subgraph.operators.append(operator)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path = folder / "made.tflite"
    path.write_bytes(bytes(builder.Output()))
    return tflite_file.take_census(path)


@pytest.mark.parametrize(
    ("types", "operators", "integer", "dynamic", "weight_only", "floating", "largest"),
    [
        (["INT8", "INT8", "INT8"], [("CONV_2D", [0, 1], [2])], 1, 0, 0, 0, 0),
        (["INT16", "INT8", "INT16"], [("DEPTHWISE_CONV_2D", [0, 1, -1], [2])], 1, 0, 0, 0, 0),
        (["FLOAT32", "INT8", "FLOAT32"], [("CONV_2D", [0, 1], [2])], 0, 1, 0, 0, 0),
        (
            ["FLOAT32", "INT8", "FLOAT32", "FLOAT32"],
            [("DEQUANTIZE", [1], [2]), ("CONV_2D", [0, 2], [3])],
            0, 0, 1, 0, 0,
        ),
        (
            ["FLOAT32", "FLOAT16", "FLOAT32", "FLOAT32"],
            [("DEQUANTIZE", [1], [2]), ("CONV_2D", [0, 2], [3])],
            0, 0, 0, 1, 6,
        ),
        (["FLOAT32", "FLOAT32", "FLOAT32"], [("CONV_2D", [0, 1], [2])], 0, 0, 0, 1, 6),
    ],
    ids=["int8", "int16", "dynamic", "weight-only", "half", "single"],
)  # fmt: skip
def test_convolutions_are_counted_by_what_they_compute_in(
    tmp_path: Path,
    types: list[str],
    operators: list[tuple[str, list[int], list[int]]],
    integer: int,
    dynamic: int,
    weight_only: int,
    floating: int,
    largest: int,
) -> None:
    census = counted(tmp_path, types, operators)
    assert census.integer_convolutions == integer
    assert census.dynamic_convolutions == dynamic
    assert census.weight_only_convolutions == weight_only
    assert census.float_convolutions == floating
    assert census.largest_float_convolution == largest


def test_operators_between_integers_are_counted(tmp_path: Path) -> None:
    types = ["FLOAT32", "INT8", "INT8", "FLOAT32"]
    operators = [("QUANTIZE", [0], [1]), ("ADD", [1, 1], [2]), ("DEQUANTIZE", [2], [3]), ("ADD", [3, 3], [0])]
    census = counted(tmp_path, types, operators)
    assert census.operators == {"QUANTIZE": 1, "ADD": 2, "DEQUANTIZE": 1}
    assert census.integer_operators == {"ADD": 1}


@pytest.mark.parametrize(
    ("inputs", "outputs", "problem"),
    [
        ([0, 7], [2], "it refers to tensor 7 of 3"),
        ([0, 1], [-2], "it refers to tensor -2 of 3"),
        ([0, -1], [2], "it has a CONV_2D without weights"),
        ([], [2], "it has a CONV_2D without weights"),
    ],
)
def test_operators_of_what_is_not_there_are_refused(
    tmp_path: Path, inputs: list[int], outputs: list[int], problem: str
) -> None:
    with pytest.raises(ArtifactError, match=f"is not a TFLite file that can be read: {problem}; export it again"):
        counted(tmp_path, ["INT8"] * 3, [("CONV_2D", inputs, outputs)])
