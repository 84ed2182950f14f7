"""What `import aml_edge` offers, and what it must not cost."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aml_edge

REPOSITORY = Path(__file__).parents[1]


def test_every_public_name_resolves() -> None:
    for name in aml_edge.__all__:
        assert getattr(aml_edge, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'aml_edge' has no attribute 'Gallery'"):
        aml_edge.Gallery  # noqa: B018 - the access is the test


def test_typed_names_equal_public_names() -> None:
    typed = re.findall(r"import (\w+) as \1", Path(str(aml_edge.__file__)).read_text())
    assert sorted([*typed, "__version__"]) == aml_edge.__all__


def test_version_equals_pyproject() -> None:
    assert f'version = "{aml_edge.__version__}"' in (REPOSITORY / "pyproject.toml").read_text()


@pytest.mark.parametrize("module", ["aml_edge", "aml_edge.cli.app"])
def test_import_is_light(module: str) -> None:
    heavy = "[m for m in ('torch', 'timm', 'onnx', 'numpy', 'PIL') if m in sys.modules]"
    code = f"import sys, {module}; print({heavy})"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_public_packages_import() -> None:
    for package in (
        "networks",
        "runtimes",
        "formats",
        "datasets",
        "index",
        "downloading",
        "exporters",
        "benchmarks",
        "training",
    ):
        importlib.import_module(f"aml_edge.{package}")
