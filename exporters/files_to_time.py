"""Files of one student that differ in which blocks compute in integers, to time them by.

A conversion takes ten times as long as what makes integers of its result; so the network is converted once, in floating
point. What the files embed is not looked at: their biases are not corrected for each choice of blocks.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from aml_edge.artifact import Artifact, Manifest, Precision
from aml_edge.embedder import Embedder
from aml_edge.exporters import EXPORTERS
from aml_edge.exporters.conversion_log import conversion_logged
from aml_edge.exporters.export_spec import ExportSpec
from aml_edge.formats import FORMATS
from aml_edge.quantization.post_training import QuantizedStudent
from aml_edge.runtimes import open_artifact

LOG = "conversion.log"


class FilesToTime:
    """Makes files of a student for timing.

    Args:
        quantized: the student, all blocks in integers that may be.
        spec: of the file; its precision is a calibrated one, its format one that is lowered from floating point.
        manifest: for the runtime that opens the files: shape and space.
        folder: for the files, which are left in it.

    Raises:
        ExportError: the conversion failed; the log lies in the folder.
    """

    def __init__(self, quantized: QuantizedStudent, spec: ExportSpec, manifest: Manifest, folder: Path) -> None:
        self._quantized, self._spec, self._manifest, self._folder = quantized, spec, manifest, folder
        self._made = 0
        self._float_file = self._next_path()
        floating = replace(spec, precision=Precision.FP32)
        with self._logged():
            EXPORTERS[spec.format].write(quantized.graph.network, floating, self._float_file, None)

    def open(self, float_blocks: frozenset[str]) -> Embedder:
        """Returns a file in its runtime, one thread, with these blocks and no others in floating point."""
        lower = EXPORTERS[self._spec.format].lower
        assert lower is not None, "the format is lowered from floating point"
        path = self._next_path()
        shutil.copyfile(self._float_file, path)
        chosen = replace(self._quantized, quantization=self._quantized.quantization.with_float(float_blocks))
        with self._logged():
            lower(path, self._spec.precision, chosen)
        return open_artifact(Artifact(path, self._manifest), threads=1)

    def _next_path(self) -> Path:
        self._made += 1
        return self._folder / f"{self._made}{FORMATS[self._spec.format].suffix}"

    def _logged(self) -> AbstractContextManager[None]:
        return conversion_logged(self._folder / LOG, "making a file to time blocks by")
