"""The settings of a training: what is refused, and that they cost no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from aml_edge.errors import UsageError
from aml_edge.preprocessing import Fit
from aml_edge.training.recipe import settings_from_json
from aml_edge.training.settings import LARGEST, BatchNorm, Mining, Mode, Network, Schedule, TrainingSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": -1}, "`dimension` is -1; it must be at least 0."),
        ({"bank_size": -1}, "`bank_size` is -1; it must be at least 0."),
        ({"queries_per_epoch": -1}, "`queries_per_epoch` is -1; it must be at least 0."),
        ({"negatives": 0}, "`negatives` is 0; it must be at least 1."),
        ({"pool_size": -1}, "`pool_size` is -1; it must be at least 0."),
        ({"epochs": 0}, "`epochs` is 0; it must be at least 1."),
        ({"batch_size": 0}, "`batch_size` is 0; it must be at least 1."),
        ({"image_side_px": 31}, "`image_side_px` is 31; it must be at least 32, the stride of a trunk."),
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0; it must be above 0."),
        ({"learning_rate": float("nan")}, "`learning_rate` is nan; it must be a finite number, and no such large one."),
        ({"decay": -0.1}, "`decay` is -0.1; it must be at least 0."),
        ({"adaptor_rate_factor": -0.1}, "`adaptor_rate_factor` is -0.1; it must be at least 0."),
        ({"pooling_rate_factor": -1.0}, "`pooling_rate_factor` is -1.0; it must be at least 0."),
        ({"weight_decay": -1e-6}, "`weight_decay` is -1e-06; it must be at least 0."),
        ({"warm_up": 1.0}, "`warm_up` is 1.0; it must be at least 0 and below 1."),
        ({"warm_up": -0.1}, "`warm_up` is -0.1; it must be at least 0 and below 1."),
        ({"warm_start_penalty": 0.0}, "`warm_start_penalty` is 0.0; it must be above 0."),
        ({"frozen_stages": -1}, "`frozen_stages` is -1; it must be at least 0."),
        ({"images_at_once": 0}, "`images_at_once` is 0; it must be at least 1."),
        ({"seed": -1}, "`seed` is -1; it must be at least 0."),
        (
            {"network": Network.TEACHER},
            "`mode` is 'asymmetric'; it must be 'symmetric' for `network` 'teacher', which has none.",
        ),
        (
            {"mode": Mode.SYMMETRIC},
            "`warm_start` is true; it must be false for `mode` 'symmetric', which has no targets.",
        ),
    ],
)
def test_refuses_what_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingSettings(**changes)
    assert str(caught.value) == message


def test_every_number_has_a_rule() -> None:
    numbers = [name for name, value in vars(TrainingSettings()).items() if type(value) in (int, float)]
    assert len(numbers) > 10
    for name in numbers:
        with pytest.raises(UsageError, match=f"`{name}` is -1"):
            TrainingSettings(**{name: -1})  # type: ignore[arg-type]
        for value in (float("inf"), 2 * LARGEST):
            with pytest.raises(UsageError) as caught:
                TrainingSettings(**{name: value})  # type: ignore[arg-type]
            assert str(caught.value) == f"`{name}` is {value}; it must be a finite number, and no such large one."


def test_the_edges_of_the_rules_are_allowed() -> None:
    settings = TrainingSettings(
        dimension=0, bank_size=0, queries_per_epoch=0, negatives=1, pool_size=0, epochs=1, batch_size=1,
        image_side_px=32, decay=0, warm_up=0, adaptor_rate_factor=0, pooling_rate_factor=0, weight_decay=0,
        frozen_stages=0, images_at_once=1, seed=LARGEST,
    )  # fmt: skip
    assert settings.image_side_px == 32


def test_a_network_alone_is_allowed_without_a_warm_start() -> None:
    for network in Network:
        assert TrainingSettings(network=network, mode=Mode.SYMMETRIC, warm_start=False).network is network


def test_comes_back_from_json() -> None:
    settings = TrainingSettings(
        network=Network.TEACHER,
        mode=Mode.SYMMETRIC,
        loss="contrastive",
        loss_options={"margin": 0.7, "form": "similarity"},
        mining=Mining.HARD,
        fit=Fit.SQUASH,
        schedule=Schedule.EXPONENTIAL,
        batch_norm=BatchNorm.TRAINED,
        epochs=7,
        warm_start=False,
        learning_rate=3e-5,
    )
    again = settings_from_json(json.loads(json.dumps(settings.to_json())), where="state")
    assert again == settings
    assert all(type(value) is type(getattr(again, name)) for name, value in vars(settings).items())


def test_costs_no_import_of_torch() -> None:
    script = "import sys, aml_edge.training.settings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
