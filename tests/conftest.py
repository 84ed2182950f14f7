"""ML programs written with coremltools' own builder, so that tests of Core ML files have an oracle for their bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aml_edge.native_output import output_discarded


@pytest.fixture(scope="session")
def coremltools() -> Any:
    """The package, imported without what it says on the way; the test is skipped where it is not installed."""
    if find_spec("coremltools") is None:
        pytest.skip("the extra 'coreml' is not installed")
    with output_discarded():
        import coremltools
        import coremltools.converters.mil.mil
    return coremltools


MilPackage = Callable[..., Path]


@pytest.fixture(scope="session")
def mil_package(tmp_path_factory: pytest.TempPathFactory, coremltools: Any) -> MilPackage:
    """Returns a function that saves a program as a new package, and returns the package's path."""
    mil = coremltools.converters.mil.mil

    def save(build: Callable[..., Any], inputs: Mapping[str, tuple[int, ...]], *, colours: str | None = None) -> Path:
        """Saves a program exactly as it is written.

        Args:
            build: takes the builder and a variable for each input; returns the result or a tuple of them.
            inputs: name → shape, float32.
            colours: ``"RGB"`` or ``"BGR"``, where the inputs are images.
        """
        package = tmp_path_factory.mktemp("mil") / "program.mlpackage"
        program = mil.Program()
        placeholders = {name: mil.Builder.placeholder(shape=shape) for name, shape in inputs.items()}
        images = []
        if colours is not None:
            layout = getattr(coremltools.colorlayout, colours)
            images = [
                coremltools.ImageType(name=name, shape=shape, color_layout=layout) for name, shape in inputs.items()
            ]
        with output_discarded():
            with mil.Function(placeholders, opset_version=coremltools.target.iOS17) as function:
                results = build(mil.Builder, *function.inputs.values())
                function.set_outputs(list(results) if isinstance(results, tuple | list) else [results])
            program.add_function("main", function)
            coremltools.convert(
                program,
                inputs=images or None,
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS17,
                compute_precision=coremltools.precision.FLOAT32,
                pass_pipeline=coremltools.PassPipeline.EMPTY,
                skip_model_load=True,
                package_dir=str(package),
            )
        return package

    return save
