"""The settings of a training: what is refused, and that they cost no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from aml_edge.errors import UsageError
from aml_edge.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "`epochs` is 0; it must be at least 1."),
        ({"batch_size": 0}, "`batch_size` is 0; it must be at least 1."),
        ({"image_side_px": 31}, "`image_side_px` is 31; it must be at least 32, the stride of a trunk."),
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0; it must be above 0."),
        ({"learning_rate": float("nan")}, "`learning_rate` is nan; it must be a finite number."),
        ({"adaptor_rate_factor": -0.1}, "`adaptor_rate_factor` is -0.1; it must be at least 0."),
        ({"pooling_rate_factor": -1.0}, "`pooling_rate_factor` is -1.0; it must be at least 0."),
        ({"weight_decay": -1e-6}, "`weight_decay` is -1e-06; it must be at least 0."),
        ({"warm_up": 1.0}, "`warm_up` is 1.0; it must be at least 0 and below 1."),
        ({"warm_up": -0.1}, "`warm_up` is -0.1; it must be at least 0 and below 1."),
        ({"warm_start_penalty": 0.0}, "`warm_start_penalty` is 0.0; it must be above 0."),
        ({"frozen_stages": -1}, "`frozen_stages` is -1; it must be at least 0."),
        ({"seed": -1}, "`seed` is -1; it must be at least 0."),
    ],
)
def test_refuses_what_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingSettings(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["learning_rate", "adaptor_rate_factor", "weight_decay", "warm_start_penalty"])
def test_refuses_infinity(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is inf; it must be a finite number"):
        TrainingSettings(**{name: float("inf")})  # type: ignore[arg-type]


def test_the_edges_of_the_rules_are_allowed() -> None:
    settings = TrainingSettings(
        epochs=1, batch_size=1, image_side_px=32, adaptor_rate_factor=0, warm_up=0, frozen_stages=0, seed=0
    )
    assert settings.image_side_px == 32


def test_comes_back_from_json() -> None:
    settings = TrainingSettings(epochs=7, warm_start=False, learning_rate=3e-5)
    assert TrainingSettings(**json.loads(json.dumps(settings.to_json()))) == settings


def test_costs_no_import_of_torch() -> None:
    script = "import sys, aml_edge.training.settings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
