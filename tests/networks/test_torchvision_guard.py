"""timm imports under a torchvision that fits its torch and under one that does not, each in a process of its own.

Stand-ins for torchvision and timm are put before the installed ones, so that both ways run wherever the tests do.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

WHOLE = """
import torch
torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
"""Declares its own operator, as its compiled half does: a second declaration would be an error."""
IMPORTED = """
with open({log!r}, "a") as log:
    log.write("torchvision\\n")
"""
DESCRIBES = """
import torch
for name in {names!r}:
    @torch.library.register_fake(f"torchvision::{{name}}")
    def fake(dets, scores, iou_threshold):
        return dets
"""
"""What torchvision's Python half does: describes operators, which fails where nobody declared them."""
TIMM = "import torchvision\nname = 'a stand-in'\n"


@dataclass(frozen=True)
class Ended:
    """A process that imported timm: what it printed, and how often the stand-in's module body began."""

    output: str
    imports: int


@dataclass(frozen=True)
class Site:
    """A folder of stand-ins."""

    folder: Path

    def torchvision(self, body: str, **modules: str) -> None:
        """Writes a stand-in of that body, after what counts its imports, and its submodules."""
        package = self.folder / "torchvision"
        package.mkdir(parents=True)
        for name, text in modules.items():
            (package / f"{name}.py").write_text(text)
        (package / "__init__.py").write_text(IMPORTED.format(log=str(self.log)) + body)

    @property
    def log(self) -> Path:
        return self.folder / "imports.log"

    def run(self, program: str) -> Ended:
        """Runs a program that finds the stand-ins first."""
        begin = f"import sys; sys.path.insert(0, {str(self.folder)!r})\n"
        begin += "from aml_edge.networks.torchvision_guard import import_timm\n"
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", begin + program], capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        imports = self.log.read_text().count("torchvision\n") if self.log.exists() else 0
        return Ended(ended.stdout.strip(), imports)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "timm.py").write_text(TIMM)
    return Site(tmp_path / "site")


def test_a_whole_torchvision_is_left_alone(site: Site) -> None:
    site.torchvision(WHOLE + DESCRIBES.format(names=("nms",)))
    program = """
import torch
define, declared = torch.library.define, []
torch.library.define = lambda name, *rest: (declared.append(name), define(name, *rest))
print(import_timm().name, declared, import_timm().name)
"""
    ended = site.run(program)
    # The one declaration is torchvision's own.
    assert ended.output == "a stand-in ['torchvision::nms'] a stand-in"
    assert ended.imports == 1


def test_operators_that_are_missing_are_declared_once(site: Site) -> None:
    """As torch 2.13 for CPUs beside PyPI's torchvision: `nms` fails first, and `qnms` when it is there."""
    site.torchvision("import torchvision.described\n", described=DESCRIBES.format(names=("nms", "qnms")))
    program = """
import torch
define, declared = torch.library.define, []
torch.library.define = lambda name, *rest: (declared.append(name), define(name, *rest))
for _ in range(3):
    import_timm()
schemas = [str(getattr(torch.ops.torchvision, name).default._schema) for name in ("nms", "qnms")]
print(declared, schemas)
"""
    ended = site.run(program)
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    expected = (["torchvision::nms", "torchvision::qnms"], [f"torchvision::{name}{schema}" for name in ("nms", "qnms")])
    assert ended.output == f"{expected[0]} {expected[1]}"
    assert ended.imports == 3


def test_one_operator_that_is_missing_declares_no_other(site: Site) -> None:
    site.torchvision(DESCRIBES.format(names=("nms",)))
    program = """
import torch
import_timm()
print(hasattr(torch.ops.torchvision, "nms"), hasattr(torch.ops.torchvision, "qnms"))
"""
    assert site.run(program).output == "True False"


def test_another_failure_is_said(site: Site) -> None:
    site.torchvision("import sys\nraise sys.failure\n")
    program = """
import torch
from aml_edge.errors import RuntimeUnavailableError
for sys.failure in (
    RuntimeError("operator torchvision::roi_align does not exist"),  # nobody here knows how to declare it
    RuntimeError("operator torchvision::nms does not exist"),  # declaring it does not help: no endless loop
    RuntimeError("built for another CUDA"),
    ImportError("libcudart.so.13: cannot open shared object file"),
    AttributeError("module 'torch' has no attribute 'x'"),
):
    try:
        import_timm()
    except RuntimeUnavailableError as problem:
        print(str(problem).replace(torch.__version__, "2.x"))
"""
    reasons = (
        "operator torchvision::roi_align does not exist",
        "operator torchvision::nms does not exist",
        "built for another CUDA",
        "libcudart.so.13: cannot open shared object file",
        "module 'torch' has no attribute 'x'",
    )
    assert site.run(program).output.splitlines() == [
        f"torchvision does not work with torch 2.x: {reason}; install the torchvision built for this torch, as "
        "https://pytorch.org/get-started/locally says."
        for reason in reasons
    ]


def test_the_installed_ones_import_together() -> None:
    """Whichever pair is installed here, timm makes a network and torchvision gives one."""
    program = """
from aml_edge.networks.torchvision_guard import import_timm
timm = import_timm()
import torchvision
print(timm.create_model("mobilenetv2_035").num_classes, callable(torchvision.models.resnet18))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "1000 True\n", ended.stderr
