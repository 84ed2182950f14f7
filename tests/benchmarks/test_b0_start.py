"""EfficientNet-B0 that starts from Lite0: the same convolutions, and gates that let the same through of any image."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from aml_edge.benchmarks import b0_start
from aml_edge.networks.imagenet import load_imagenet_backbone
from aml_edge.networks.released_cache import CACHE_VARIABLE

GATE = 0.9525741268  # sigmoid(3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing is cached."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["b0_start"])
    return tmp_path / "cache"


def test_training_finds_lite0s_convolutions_and_open_gates(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b0_start.main()
    assert capsys.readouterr().out == f"{cache}/tf_efficientnet_b0.ns_jft_in1k.safetensors\n"
    lite0, b0 = load_imagenet_backbone("efficientnet_lite0"), load_imagenet_backbone("tf_efficientnet_b0")
    shared = lite0.state_dict()
    assert len(shared) == 294
    for name, tensor in b0.state_dict().items():
        assert ".se." in name or torch.equal(tensor, shared[name]), name
    gates = []
    for module in b0.modules():
        if type(module).__name__ == "SqueezeExcite":
            module.register_forward_hook(lambda _module, given, made: gates.append(made / given[0]))
    with torch.inference_mode():
        b0(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert len(gates) == 16
    for gate in gates:
        assert torch.allclose(gate[gate.isfinite()], torch.tensor(GATE), atol=1e-4)


def test_a_file_that_may_be_the_published_one_is_left(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = cache / "tf_efficientnet_b0.ns_jft_in1k.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"published")
    with pytest.raises(SystemExit) as ending:
        b0_start.main()
    assert ending.value.code == 2
    assert (
        capsys.readouterr().err == f"error: {file} is there already, perhaps the published file; name another folder.\n"
    )
    assert file.read_bytes() == b"published"


def test_the_users_own_cache_is_not_written_to(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    with pytest.raises(SystemExit) as ending:
        b0_start.main()
    assert ending.value.code == 2
    assert not cache.exists()
