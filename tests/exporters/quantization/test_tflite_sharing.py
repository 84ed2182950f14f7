"""What an integer file repeats: stored once, computed the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.exporters.quantization.tflite_sharing import short_name, without_repetition

pytest.importorskip("litert_torch", reason="the extra 'tflite' is not installed")

BLOCK = "aml_edge.exporters.to_tflite._NamedOutput/aml_edge.networks.deployable.DeployableStudent_network/"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("serving_default_embedding_output", "serving_default_embedding_output"),
        (f"{BLOCK}torch.nn.modules.conv.Conv2d_adaptor;1", "network/adaptor"),
        (f"{BLOCK}timm.layers.norm_act.BatchNormAct2d_bn1;;{BLOCK}torch.nn.modules.conv.Conv2d_conv;", "network/bn1"),
        (f"{BLOCK}torch.nn.modules.container.Sequential_1/timm.models._efficientnet_blocks.SqueezeExcite_se;", None),
    ],
)
def test_names_keep_the_modules(name: str, short: str | None) -> None:
    assert short_name(name) == (short or "network/1/se")


def test_the_file_is_smaller_and_holds_the_same(exported: Callable[..., Artifact]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = exported(Format.TFLITE, Precision.FP16, whitened=True).path.read_bytes()
    small = without_repetition(model)
    assert len(small) < len(model)
    assert without_repetition(small) == small
    before, after = (schema.ModelT.InitFromObj(schema.Model.GetRootAs(one, 0)) for one in (model, small))
    names = [tensor.name for tensor in after.subgraphs[0].tensors]
    assert len(set(names)) == len(names)
    for old, new in zip(before.subgraphs[0].tensors, after.subgraphs[0].tensors, strict=True):
        assert list(old.shape if old.shape is not None else ()) == list(new.shape if new.shape is not None else ())
        assert old.type == new.type
        start, size = before.buffers[old.buffer].offset, before.buffers[old.buffer].size
        inside = before.buffers[old.buffer].data
        content = model[start : start + size] if start > 1 else bytes(inside) if inside is not None else None
        stored = after.buffers[new.buffer].data
        assert content == (None if stored is None else bytes(stored))
