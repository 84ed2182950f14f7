"""The layers, links and names that DESIGN and CONTRIBUTING promise."""

from __future__ import annotations

import ast
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SIBLINGS = ("exporters", "benchmarks", "training")
CORE_ORDER = (
    ("errors", "printable", "progress", "native_output", "numpy_stand_ins", "pickle_weight", "file_lock", "read_ahead"),
    ("decoding", "script_errors"),
    ("files", "space", "safe_pickle", "preprocessing", "scales", "protocol", "quantization_record"),
    ("artifact", "pixels"),
    ("downloading",),
    ("embedder",),
    ("image_loading", "formats", "vectors"),
    ("remote_images",),
    ("table_images",),
    ("networks",),
    ("runtimes",),
    ("row_reading", "bootstrap", "ground_truth"),
    ("search", "randomisation", "score_counting"),
    ("labelled_ranks",),
    ("ranking",),
    ("measures", "map_drop"),
    ("datasets",),
    ("index",),
    ("quantization",),
    ("engines",),
    ("approximate", "querying", "answers", "query_images", "thumbnails"),
    ("search_page",),
    ("embedded_sides", "evaluated_rows", "whitening_building"),
    ("contestants",),
    ("evaluation", "comparison"),
)
HEAVY = {
    "ai_edge_litert",
    "ai_edge_quantizer",
    "coremltools",
    "faiss",
    "fsspec",
    "fvcore",
    "litert_torch",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "qdrant_client",
    "ray",
    "s3fs",
    "tensorflow",
}
VAGUE_NAMES = {"utils.py", "common.py", "helpers.py", "misc.py"}
DEPENDENCIES = {"onnx.py", "torch.py", "timm.py", "numpy.py", "coremltools.py", "tensorflow.py", "onnxruntime.py"}
DATA_TABLES: set[str] = set()


def sources() -> Iterator[tuple[Path, str]]:
    """Yields each module's path and its full name, the links not followed."""
    for folder in ("aml_edge", *SIBLINGS):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            relative = path.relative_to(REPOSITORY)
            if relative.parts[:1] == ("aml_edge",) and relative.parts[1] in SIBLINGS:
                continue
            parts = relative.with_suffix("").parts
            name = ".".join(parts if parts[0] == "aml_edge" else ("aml_edge", *parts))
            yield path, name.removesuffix(".__init__")


MODULES = dict(sources())


def imports(tree: ast.AST) -> Iterator[str]:
    """Yields the full name of everything that a tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def top_level_imports(tree: ast.Module) -> Iterator[str]:
    """Yields what is imported when a module is imported, `if TYPE_CHECKING` left out."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)


def layer(name: str) -> str:
    """Returns the part of the package that a module belongs to: a sibling, ``cli`` or ``core``."""
    parts = name.replace("__main__", "cli").split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*SIBLINGS, "cli") else "core"


@pytest.mark.parametrize(("path", "name"), MODULES.items(), ids=MODULES.values())
def test_imports_keep_the_layers(path: Path, name: str) -> None:
    allowed = {"cli": {"cli", "core", *SIBLINGS}}.get(layer(name), {"core", layer(name)})
    ours = [imported for imported in imports(ast.parse(path.read_text())) if imported.split(".")[0] == "aml_edge"]
    assert [imported for imported in ours if layer(imported) not in allowed] == []


@pytest.mark.parametrize(("path", "name"), MODULES.items(), ids=MODULES.values())
def test_heavy_packages_are_imported_where_they_are_needed(path: Path, name: str) -> None:
    at_import = {imported.split(".")[0] for imported in top_level_imports(ast.parse(path.read_text()))}
    light = HEAVY | ({"torch", "timm"} if layer(name) == "cli" else set())
    assert at_import & light == set()


def test_timm_is_imported_through_the_guard_only() -> None:
    importers = [name for path, name in MODULES.items() if "timm" in set(imports(ast.parse(path.read_text())))]
    assert importers in ([], ["aml_edge.networks.torchvision_guard"])


def test_core_has_no_cycle_and_keeps_its_order() -> None:
    rank = {part: place for place, parts in enumerate(CORE_ORDER) for part in parts}
    for path, name in MODULES.items():
        parts = name.split(".")
        if layer(name) != "core" or len(parts) < 2:
            continue
        for imported in imports(ast.parse(path.read_text())):
            other = imported.split(".")
            if other[0] == "aml_edge" and len(other) > 1 and other[1] != parts[1]:
                assert rank[other[1]] < rank[parts[1]], f"{name} imports {imported}"


def test_links_lead_to_the_folders() -> None:
    for folder in SIBLINGS:
        link = REPOSITORY / "aml_edge" / folder
        assert link.is_symlink()
        assert os.readlink(link) == f"../{folder}"


def test_pyproject_lists_every_package_once() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = sorted(name for path, name in MODULES.items() if path.name == "__init__.py")
    assert sorted(settings["packages"]) == packages
    assert settings["package-dir"] == {"aml_edge": "aml_edge", **{f"aml_edge.{name}": name for name in SIBLINGS}}


def test_file_names_say_what_is_inside() -> None:
    assert [path for path in MODULES if path.name in VAGUE_NAMES | DEPENDENCIES] == []


def test_files_stay_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for path, name in MODULES.items() if name not in DATA_TABLES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_every_module_says_what_it_is() -> None:
    assert [name for path, name in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))] == []
