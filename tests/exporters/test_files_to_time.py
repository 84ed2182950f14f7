from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aml_edge.artifact import Format, Manifest, Precision
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.exporters.files_to_time import FilesToTime
from aml_edge.formats import FORMATS
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit
from aml_edge.quantization.graph import SiteKind
from aml_edge.quantization.post_training import QuantizedStudent

SIDE = 64


@pytest.fixture(scope="module", params=[Format.ONNX, Format.TFLITE])
def files(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    checkpoint: StudentCheckpoint,
    quantized: QuantizedStudent,
) -> Iterator[tuple[FilesToTime, Format, Path]]:
    model_format: Format = request.param
    folder = tmp_path_factory.mktemp("to_time")
    manifest = Manifest(
        space=checkpoint.space,
        preprocessing=checkpoint.preprocessing.fitted(Fit.LETTERBOX, SIDE),
        student=checkpoint.name,
        backbone=checkpoint.student.spec.backbone,
        weights_sha256=checkpoint.weights_sha256,
        format=model_format,
        precision=Precision.INT8,
        target="",
    )
    yield FilesToTime(quantized, ExportSpec(model_format, Precision.INT8, SIDE), manifest, folder), model_format, folder


def test_each_file_has_the_integers_that_were_asked_for_and_runs(
    files: tuple[FilesToTime, Format, Path], quantized: QuantizedStudent, photographs: list[Pixels]
) -> None:
    made, model_format, folder = files
    float_blocks = quantized.quantization.float_blocks
    for more in (frozenset[str](), frozenset({"blocks.1.0"})):
        before = set(folder.iterdir())
        embedder = made.open(float_blocks | more)
        rows = embedder.embed(photographs[:1])
        embedder.close()
        assert np.isfinite(rows).all()
        (path,) = set(folder.iterdir()) - before
        convolutions = [
            site
            for site in quantized.graph.sites
            if site.kind is SiteKind.CONVOLUTION and site.block not in float_blocks | more
        ]
        assert FORMATS[model_format].take_census(path).integer_convolutions == len(convolutions)
    assert not list(folder.glob("*.log"))
