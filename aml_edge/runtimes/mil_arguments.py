"""`MilArguments`: the arguments of one operation of an ML program, as its operator wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

MilValue = Tensor | str
"""A result or a constant; half precision is held in float32."""

MOST_VALUES = 2**29
"""What the results of a program may hold at any one time: two gigabytes in single precision."""


class MilArgumentError(ValueError):
    """An argument that an operator cannot work with."""


class MilArguments:
    """The arguments of one operation by name.

    Args:
        values: several a name where the argument is a list.
        device: where tensors must be; on ``"meta"`` an operator says its shape and computes nothing.
    """

    def __init__(self, values: Mapping[str, Sequence[MilValue]], device: str = "cpu") -> None:
        self._values, self._device = values, device

    def has(self, name: str) -> bool:
        """Whether the argument is given."""
        return name in self._values

    def tensor(self, name: str) -> Tensor:
        """Returns a tensor that must be given."""
        value = self._one(name)
        if isinstance(value, str):
            raise MilArgumentError(f"its argument '{name}' is the text {value!r}, not a tensor")
        return value.to(self._device)

    def optional(self, name: str) -> Tensor | None:
        """Returns a tensor, or None where it is not given."""
        return self.tensor(name) if self.has(name) else None

    def tensors(self, name: str) -> list[Tensor]:
        """Returns the tensors of an argument that is a list."""
        values = [value for value in self._values.get(name, ()) if not isinstance(value, str)]
        return [value.to(self._device) for value in values]

    def constant(self, name: str) -> Tensor:
        """Returns a tensor that stands in the file; no other is known before the program runs."""
        value = self._one(name)
        if isinstance(value, str) or value.device == torch.device("meta"):
            raise MilArgumentError(f"its argument '{name}' is no constant")
        return value

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Returns a constant vector of integers, or the default where it is not given."""
        if default is not None and not self.has(name):
            return list(default)
        value = self.constant(name)
        if value.is_floating_point() or value.ndim != 1:
            raise MilArgumentError(f"its argument '{name}' is no vector of integers")
        return [int(entry) for entry in value.tolist()]

    def integer(self, name: str, default: int | None = None) -> int:
        """Returns a constant integer, or the default where it is not given."""
        if default is not None and not self.has(name):
            return default
        value = self.constant(name)
        if value.is_floating_point() or value.numel() != 1:
            raise MilArgumentError(f"its argument '{name}' is no integer")
        return int(value.item())

    def number(self, name: str, default: float | None = None) -> float:
        """Returns a constant number, or the default where it is not given."""
        if default is not None and not self.has(name):
            return default
        value = self.constant(name)
        if value.numel() != 1:
            raise MilArgumentError(f"its argument '{name}' is no number")
        return float(value.item())

    def flag(self, name: str) -> bool:
        """Returns a constant truth value; false where it is not given."""
        return self.has(name) and bool(self.number(name))

    def flags(self, name: str, length: int) -> list[bool]:
        """Returns constant truth values; all false where they are not given."""
        return [bool(value) for value in self.integers(name, [0] * length)]

    def text(self, name: str, default: str) -> str:
        """Returns a constant text, or the default where it is not given."""
        value = self._one(name) if self.has(name) else default
        if not isinstance(value, str):
            raise MilArgumentError(f"its argument '{name}' is no text")
        return value

    def _one(self, name: str) -> MilValue:
        values = self._values.get(name, ())
        if len(values) != 1:
            raise MilArgumentError(f"its argument '{name}' has {len(values)} values, where one is needed")
        return values[0]
