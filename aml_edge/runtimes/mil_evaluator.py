"""`MilEvaluator`: runs an ML program operation by operation in PyTorch.

What the program types as half precision is rounded to half after every operation; sums inside one run in single
precision. Loading proves that the program can be run: every operation is tried without computing, so that a file with
an argument or a shape that does not fit is refused before it costs memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aml_edge.errors import ArtifactError, UnknownOperatorError
from aml_edge.formats.mil_program import MilOperation, MilProgram, Reference
from aml_edge.formats.mil_values import Constant
from aml_edge.runtimes.half_rounding import rounded_to_half
from aml_edge.runtimes.mil_arguments import MOST_VALUES, MilArgumentError, MilArguments, MilValue
from aml_edge.runtimes.mil_constant_operators import CONSTANT_OPERATORS
from aml_edge.runtimes.mil_operators import OPERATORS

CONST = "const"
HALF = "float16"
NOT_COMPUTING, COMPUTING = "meta", "cpu"

_WIDER: dict[np.dtype[Any], np.dtype[Any]] = {np.dtype("u2"): np.dtype("i4"), np.dtype("u4"): np.dtype("i8")}
"""Integers that PyTorch can hardly compute with."""


class MilEvaluator:
    """A program ready to run.

    Args:
        program: read from a package.
        source: the package, for messages.

    Raises:
        UnknownOperatorError: operators that are not in `OPERATORS`; all are named.
        ArtifactError: an operation that cannot be run, or gives another shape than the program says.
    """

    def __init__(self, program: MilProgram, source: str) -> None:
        self._source = source
        self._outputs = program.outputs
        self._require_known(program)
        self._constants: dict[str, MilValue] = {}
        self._steps: list[MilOperation] = []
        for operation in program.operations:
            if operation.type == CONST or operation.type in CONSTANT_OPERATORS:
                self._constants |= self._tried(operation, {}, COMPUTING)
            else:
                self._steps.append(operation)
        self._used_up = _used_up(self._steps, program.outputs)
        self._try({entry.name: torch.empty(entry.shape, device=NOT_COMPUTING) for entry in program.inputs})

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the program's outputs by name, of its inputs by name, which have the shapes that the program says."""
        results: dict[str, MilValue] = dict(inputs)
        with torch.inference_mode():
            for operation, used_up in zip(self._steps, self._used_up, strict=True):
                results |= self._step(operation, results, COMPUTING)
                for name in used_up:
                    results.pop(name, None)
            return {name: MilArguments({name: [self._value(name, results)]}).tensor(name) for name in self._outputs}

    def _require_known(self, program: MilProgram) -> None:
        unknown = sorted({operation.type for operation in program.operations} - {CONST, *OPERATORS})
        if unknown:
            raise UnknownOperatorError(
                f"{self._source} uses operators that the evaluator does not know: {', '.join(unknown)}; "
                "add them to aml_edge/runtimes/mil_operators.py, or run the file on a Mac."
            )

    def _try(self, inputs: Mapping[str, Tensor]) -> None:
        """Runs through the program without computing; raises `ArtifactError` where it could not be run."""
        results: dict[str, MilValue] = dict(inputs)
        for operation, used_up in zip(self._steps, self._used_up, strict=True):
            results |= self._tried(operation, results, NOT_COMPUTING)
            if sum(value.numel() for value in results.values() if isinstance(value, Tensor)) > MOST_VALUES:
                raise self._refused(operation, f"it takes the results beyond {MOST_VALUES} values")
            for name in used_up:
                results.pop(name, None)
        for name in self._outputs:
            if not isinstance(results.get(name, self._constants.get(name)), Tensor):
                raise ArtifactError(f"{self._source} cannot be run: nothing makes its {name!r}; export it again.")

    def _tried(self, operation: MilOperation, results: Mapping[str, MilValue], device: str) -> dict[str, MilValue]:
        """Returns the results of an operation; raises `ArtifactError` where they are not what the program says."""
        try:
            made = self._step(operation, results, device)
        except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as problem:
            raise self._refused(operation, str(problem).partition("\n")[0]) from None
        for variable in operation.outputs:
            value = made[variable.name]
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            if shape != variable.shape:
                raise self._refused(operation, f"it makes {shape}, where the program says {variable.shape}")
        return made

    def _step(self, operation: MilOperation, results: Mapping[str, MilValue], device: str) -> dict[str, MilValue]:
        arguments = {
            name: [
                self._value(value.name, results) if isinstance(value, Reference) else _constant(value)
                for value in values
            ]
            for name, values in operation.arguments.items()
        }
        if operation.type == CONST:
            made = arguments.get("val", [])
        else:
            result = OPERATORS[operation.type](MilArguments(arguments, device))
            made = [result] if isinstance(result, Tensor) else list(result)
        if len(made) != len(operation.outputs):
            raise MilArgumentError(f"it makes {len(made)} results, where the program says {len(operation.outputs)}")
        rounded = [
            rounded_to_half(value.float()) if variable.dtype == HALF and isinstance(value, Tensor) else value
            for variable, value in zip(operation.outputs, made, strict=True)
        ]
        return {variable.name: value for variable, value in zip(operation.outputs, rounded, strict=True)}

    def _value(self, name: str, results: Mapping[str, MilValue]) -> MilValue:
        if name in results:
            return results[name]
        if name in self._constants:
            return self._constants[name]
        raise MilArgumentError(f"it uses {name!r}, which nothing before it makes")

    def _refused(self, operation: MilOperation, reason: str) -> ArtifactError:
        return ArtifactError(
            f"{self._source} cannot be run: its {operation.type} {operation.name!r}: {reason}; export it again."
        )


def _constant(constant: Constant) -> MilValue:
    """Returns a constant as operators take it, half precision widened."""
    if isinstance(constant, str):
        return constant
    if constant.dtype == np.float16:
        return rounded_to_half(torch.from_numpy(constant.astype(np.float32)))
    wide: npt.NDArray[Any] = constant.astype(_WIDER.get(constant.dtype, constant.dtype), copy=False)
    return torch.from_numpy(np.require(wide, requirements=["C", "ALIGNED", "WRITEABLE"]))


def _used_up(steps: list[MilOperation], outputs: tuple[str, ...]) -> list[list[str]]:
    """Returns, for each step, the results that nothing needs after it."""
    last: dict[str, int] = {}
    for place, operation in enumerate(steps):
        for variable in operation.outputs:
            last[variable.name] = place
        for values in operation.arguments.values():
            last.update({value.name: place for value in values if isinstance(value, Reference)})
    used_up: list[list[str]] = [[] for _ in steps]
    for name, place in last.items():
        if name not in outputs:
            used_up[place].append(name)
    return used_up
