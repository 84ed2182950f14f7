"""What an export may cost: one table of tolerances, each of which an option can replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from aml_edge.artifact import Precision
from aml_edge.errors import UsageError


@dataclass(frozen=True)
class Tolerances:
    """What an export may cost. A value that is NaN misses every one of them.

    Args:
        map_loss_points: most asymmetric mAP that may be lost in each setting, in points of 100.
        overlap: least mean share of the first 10, and of the first 100, that student and artifact have in common.
        rank_correlation: least mean Spearman correlation of the two rankings of the index.
        cosine: least cosine of artifact and student over all images.
        centred_cosine: the same with the student's mean embedding subtracted from both.
        pair_error: most that the similarity of any two images may change.
        teacher_cosine_loss: most that the median cosine to the teacher may lose by the export.
        norm_error: most that an embedding's norm may differ from one.
        ann_map_loss_points, ann_overlap: the same of approximate search beside exact search, by the file's embeddings;
            None where that is reported and not judged.
    """

    map_loss_points: float
    overlap: float
    rank_correlation: float
    cosine: float
    centred_cosine: float
    pair_error: float
    teacher_cosine_loss: float
    norm_error: float
    ann_map_loss_points: float | None = None
    ann_overlap: float | None = None

    def overridden(self, values: Mapping[str, float | None]) -> Tolerances:
        """Returns the same with some values replaced, None meaning as it is; `UsageError` where one cannot be."""
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            most = 100.0 if name.endswith("map_loss_points") else 1.0
            if not 0 <= value <= most:
                raise UsageError(f"`{name}` is {value:g}; a tolerance of this kind lies between 0 and {most:g}.")
        return replace(self, **given)

    def differing(self, other: Tolerances) -> dict[str, float]:
        """Returns the values that are not the other's, by name."""
        names = (field.name for field in fields(self))
        ours = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(other, name)}
        return {name: value for name, value in ours.items() if value is not None}


FULL_PRECISION = Tolerances(
    # Rounding alone: conversions measured 6e-8 to 3e-6 at most, which leaves nine digits of a cosine. What these limits
    # must catch is a small mistake in the preprocessing: a mean of 127/255 and a deviation of 128/255 where both
    # should be 1/2 gave a smallest cosine of 0.99985, centred 0.9993, and a pair error of 0.004.
    cosine=0.99999,
    centred_cosine=0.9999,
    pair_error=0.0005,
    # Noise of 1e-5 a value, more than any conversion's, moved no mAP, one in 10 000 of the first 100, and 2e-6 of a
    # correlation; the margin is for near ties in an index full of duplicates.
    map_loss_points=0.1,
    overlap=0.99,
    rank_correlation=0.9999,
    teacher_cosine_loss=0.0005,
    # The student itself divides by (norm + 1e-6), so short vectors come out a little short of one.
    norm_error=1e-3,
)
HALF_PRECISION = Tolerances(
    # Every step rounded to eleven bits measured 0.99987, centred 0.9996, a pair error of 0.0024; features a hundred
    # times smaller, at the edge of half's range, 0.9991, 0.9964 and 0.0041. Red and blue exchanged, which must not
    # pass: 0.85, 0.51, 0.09; a head that overflows: NaN.
    cosine=0.999,
    centred_cosine=0.995,
    pair_error=0.01,
    # The same: 0.993 of the first 10, 0.99999 of a correlation, 0.14 points of mAP either way. Bicubic instead of
    # bilinear pixels: 0.92 and 0.998.
    map_loss_points=0.5,
    overlap=0.95,
    rank_correlation=0.999,
    teacher_cosine_loss=0.005,
    norm_error=2e-3,
)

INT8_WEIGHT_PRECISION = Tolerances(
    # Weights alone in 8 bits, in a palette of 256, or activations in 16: 0.9989, centred 0.9926, a pair error of 0.0084
    # at worst.
    # What must not pass lies far off: red and blue exchanged 0.95, 0.58 and 0.06; ImageNet's mean and deviation in
    # place of 1/2 0.95, 0.51 and 0.06; pixels of 0 to 1, not normalised, 0.97, 0.65 and 0.06. A mistake as small as
    # rounding to 8 bits hides behind it: verify the same student's fp32 file too.
    cosine=0.995,
    centred_cosine=0.97,
    pair_error=0.02,
    # The same: 0.958 of the first 10, 0.9995 of a correlation; the mistakes 0.75 and 0.982. The aim is to lose half a
    # point of mAP, and the 60 queries of `stamps` tell a loss to half a point either way (0.54, from 0.16 to 0.95):
    # the limit is their sum, and a mistake lost 6 points. `--max-drop` judges a budget by the whole interval.
    map_loss_points=1.0,
    overlap=0.92,
    rank_correlation=0.997,
    teacher_cosine_loss=0.01,
    norm_error=2e-3,
)
INT8_PRECISION = Tolerances(
    # Activations in 8 bits too: 0.9992, centred 0.9937, a pair error of 0.007; with stem and head in them 0.9982,
    # 0.988, 0.011 and norms that are off by 0.003. What must not pass: calibrated on noise 0.974, 0.73, 0.07, 0.68 of
    # the first 10 and 12 points; all in integers without equalisation and bias correction 0.993, 0.948, 0.021 and a
    # point, on Lite2 with a stock recipe 0.93, 0.80 and 0.21. B0 (SiLU, squeeze): 0.992, 0.951, 0.044, 0.901 of the
    # first 10, a correlation of 0.9948, 0.7 points; without clipped ranges 0.957, 0.70, 0.73 of the first 10, 0.955, 5
    # points. One image in a hundred may lie far out where mAP is kept: the demo's student lost 0.3 points of mAP with a
    # first percentile of 0.997, but 0.981, 0.949 and 0.061 at worst. So pairs are held to what only a broken head does,
    # and mistakes are told by centred cosines, rankings and mAP.
    cosine=0.975,
    centred_cosine=0.9,
    pair_error=0.1,
    map_loss_points=1.0,
    overlap=0.87,
    rank_correlation=0.993,
    teacher_cosine_loss=0.01,
    norm_error=1e-2,
)
FEW_VALUES_PRECISION = Tolerances(
    # Ranges that each image chooses measured 0.9956, centred 0.963, a pair error of 0.017, 0.94 of the first 10, a
    # correlation of 0.9983 and 0.74 points (LiteRT; ONNX, with a scale a channel, 0.9989 and 0.991). Palettes of 64
    # values measured 0.9943, 0.941, 0.024, 0.895, 0.9959 and 0.6 points. The mistakes stay below: 0.974, 0.73, 0.057,
    # 0.75 and 0.982; so does a palette of 256 whose values are badly placed: 0.976, 0.79, 0.049, 0.81, 4.5 points.
    cosine=0.985,
    centred_cosine=0.9,
    pair_error=0.035,
    map_loss_points=1.0,
    overlap=0.85,
    rank_correlation=0.993,
    teacher_cosine_loss=0.02,
    norm_error=2e-3,
)

TOLERANCES: dict[Precision, Tolerances] = {
    Precision.FP32: FULL_PRECISION,
    Precision.FP16: HALF_PRECISION,
    Precision.INT8_WEIGHTS: INT8_WEIGHT_PRECISION,
    Precision.INT8_INT16: INT8_WEIGHT_PRECISION,
    Precision.INT8: INT8_PRECISION,
    Precision.INT8_DYNAMIC: FEW_VALUES_PRECISION,
    Precision.PALETTE8: INT8_WEIGHT_PRECISION,
    Precision.PALETTE6: FEW_VALUES_PRECISION,
}
"""Floats measured on an ImageNet EfficientNet-Lite0 fitted to a Lite2 teacher, 160 photographs of objects at 160 px;
integers on EfficientNet-Lite0 trained by regression, 256 px, the 60 queries of `stamps` and 100 of the synthetic set,
in the files' own runtimes, and in simulation where a mistake was made on purpose."""
