"""`Protocol`: how the answers to a data set's queries are judged."""

from __future__ import annotations

from enum import StrEnum

RECALL_AT = (1, 2, 4, 8)
"""Cut-offs of recall@k where a data set has no others."""


class Protocol(StrEnum):
    """The measures that a data set's results are published in."""

    REVISITED = "revisited"
    """mAP and mP@k in the easy, medium and hard setting: ROxford5k, RParis6k."""
    INSTANCES = "mAP"
    """mAP over the whole ranking, easy images alone: INSTRE."""
    LANDMARKS = "mAP@100"
    """mAP over the first hundred images: Google Landmarks v2."""
    METRIC_LEARNING = "recall@k"
    """recall@k and MAP@R, each image asking all others: Stanford Online Products, CUB-200, a folder of classes."""
