"""The table of losses."""

from __future__ import annotations

import pytest

from aml_edge.errors import UsageError
from aml_edge.training.losses import LOSSES, named_loss


def test_every_name_leads_to_its_loss() -> None:
    assert {name: named_loss(name) for name in LOSSES} == LOSSES


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        named_loss("hinge")
    assert str(caught.value) == "`loss` is 'hinge'; it must be one of regression."
