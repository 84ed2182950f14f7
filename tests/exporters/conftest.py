"""A small student with lively embeddings, photographs, and real conversions made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from aml_edge.artifact import Artifact, Format, Precision
from aml_edge.exporters.export import export_student
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.whitening import Whitening
from aml_edge.runtimes import open_artifact
from aml_edge.space import EmbeddingSpace

if TYPE_CHECKING:
    from aml_edge.exporters.compatibility import CompatibilityReport

SIDE = 64
FP32_MAXABS = 5e-6
"""Another order of summation in fifty convolutions; entries of a 64-D unit row are about 0.1."""

Images = list[npt.NDArray[np.uint8]]
Rows = npt.NDArray[np.float32]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


Exported = Callable[..., Artifact]


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
    checkpoint: StudentCheckpoint,
    whitening: Whitening,
    whitened_space: EmbeddingSpace,
) -> Exported:
    """Returns a function of format, precision and `whitened` that converts the student, once for the whole session."""
    made: dict[tuple[Format, Precision, bool], Artifact] = {}

    def export(model_format: Format, precision: Precision, *, whitened: bool = False) -> Artifact:
        key = (model_format, precision, whitened)
        if key not in made:
            made[key] = export_student(
                checkpoint,
                ExportSpec(model_format, precision, SIDE),
                tmp_path_factory.getbasetemp() / "artifacts",
                whitening=whitening if whitened else None,
                space=whitened_space if whitened else None,
            )
        return made[key]

    return export


@pytest.fixture(scope="session")
def embeddings_of(photographs: Images) -> Callable[..., Rows]:
    """Returns what a file gives of the photographs, in its format's first runtime or a named one."""

    def embed(artifact: Artifact, runtime: str | None = None) -> Rows:
        embedder = open_artifact(artifact, runtime, threads=1)
        rows = embedder.embed(photographs)
        embedder.close()
        return rows

    return embed


@pytest.fixture(scope="session")
def check_fp32(exported: Exported, embeddings_of: Callable[..., Rows], student_rows: Rows) -> Callable[..., None]:
    """Checks that a format's file in single precision equals the student."""

    def check(model_format: Format, runtime: str | None = None) -> None:
        rows = embeddings_of(exported(model_format, Precision.FP32), runtime)
        assert np.abs(rows - student_rows).max() < FP32_MAXABS

    return check


@pytest.fixture(scope="session")
def check_whitened_fp16(
    exported: Exported, embeddings_of: Callable[..., Rows], whitened_rows: npt.NDArray[np.float64]
) -> Callable[..., None]:
    """Checks that a format's file in half precision, with the whitening, is near what the student gives with it."""

    def check(model_format: Format, runtime: str | None = None) -> None:
        rows = embeddings_of(exported(model_format, Precision.FP16, whitened=True), runtime)
        assert rows.shape == whitened_rows.shape
        assert (rows * whitened_rows).sum(axis=1).min() > 0.999

    return check


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 small PNG files `jpg/NN.png`, smooth blobs of colour that differ from each other."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "jpg").mkdir()
    generator = np.random.default_rng(0)
    for number in range(24):
        blobs = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        blobs.resize((64, 48), Image.Resampling.BICUBIC).save(root / "jpg" / f"{number:02}.png")
    return root


@pytest.fixture
def report() -> CompatibilityReport:
    """The report of a half-precision file with which nothing is wrong."""
    from aml_edge.bootstrap import Interval
    from aml_edge.exporters.agreement import EmbeddingAgreement, PairError, Spread
    from aml_edge.exporters.compatibility import CompatibilityReport, TeacherAgreement
    from aml_edge.exporters.half_precision import HeadRange
    from aml_edge.exporters.half_precision_agreement import HalfPrecisionAgreement
    from aml_edge.exporters.rank_agreement import RankAgreement, TopKOverlap
    from aml_edge.exporters.retrieval_agreement import MapDifference, RetrievalAgreement, SettingAgreement
    from aml_edge.formats import OperatorCensus

    unchanged = MapDifference(0.0, Interval(-0.001, 0.001))
    setting = SettingAgreement(60, 0.5, 0.5, 0.5, unchanged, unchanged)
    agreement = EmbeddingAgreement(
        cosine=Spread(0.9999, 0.99995, 0.99999),
        centred_cosine=Spread(0.9996, 0.9998, 0.9999),
        pair_error=PairError(0.002, 0.0004),
        non_finite=0,
        largest_norm_error=5e-4,
    )
    overlaps = (TopKOverlap(10, 0.99, 0.8, 0.0125), TopKOverlap(100, 0.995, 0.9, 0.125))
    return CompatibilityReport(
        runtime="litert cpu",
        source="landmarks",
        images=188,
        distinct_images=188,
        student_non_finite=0,
        student_pair_distance=0.3,
        index_pair_distance=0.5,
        retrieval=RetrievalAgreement(None, setting, setting),
        ranking=RankAgreement(188, 800, overlaps, 800, 0.99999, 0.9998),
        agreement=agreement,
        teacher=TeacherAgreement(128, Spread(0.5, 0.6, 0.8), Spread(0.5, 0.6, 0.8), 0.97, 0.97),
        precision=Precision.FP16,
        half_precision=HalfPrecisionAgreement("simulated", 48, agreement, HeadRange(8.2, 1e-4, 3.0, 48)),
        census=OperatorCensus({"CONV_2D": 66, "ADD": 20}, {"float16": 6_100_000, "int32": 30}, 1),
    )
