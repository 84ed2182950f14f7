"""How much work a pickle makes, found without running it: its stack is followed with a weight for each thing.

A pickle can name a thing again for two bytes. So a hundred bytes can make a tuple whose hash takes longer than anyone
lives, another file nests tuples until Python's own stack overflows, and a third one has a long list copied ten
thousand times. All are refused here: what a pickle lets others do may not be out of proportion to its own length.

Source: the operations as `pickletools` documents them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable, Iterator

Operation = tuple[pickletools.OpcodeInfo, object, int | None]

_FREE_WORK = 1_000_000
_WORK_PER_BYTE = 64
"""An honest file shares short names, small shapes and numbers' types, and each thing passes through a few hands."""
_MOST_NESTED = 100
"""Tuples in each other; NumPy's state of an array has three."""
_WIDEST_BITS, _WIDE_WORK = 64, 10_000
"""Wider whole numbers can be made to have one hash, which makes a dict of many of them slow."""
_FIXED_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY = ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET")
_MADE_FROM_MARK = ("TUPLE", "LIST", "DICT", "FROZENSET")
_PUT_IN = {"APPEND": 1, "SETITEM": 2}
_PUT_IN_FROM_MARK = ("APPENDS", "SETITEMS", "ADDITEMS")
_CALLED = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "BINPERSID": 1, "STACK_GLOBAL": 2}
_CALLED_FROM_MARK = ("OBJ", "INST")
_SILENT = ("PROTO", "FRAME", "STOP", "READONLY_BUFFER")


class _Thing:
    """Something on the stack.

    Args:
        nodes: things in it, each as often as it is in it: what hashing it takes.
        length: of text or bytes.
        depth: of tuples in each other.
        parts: of a tuple.
    """

    __slots__ = ("depth", "length", "nodes", "parts")
    depth: int
    length: int
    nodes: int
    parts: tuple[_Thing, ...]

    def __init__(self, length: int = 0, parts: tuple[_Thing, ...] = (), *, is_tuple: bool = False) -> None:
        self.nodes = 1 + sum(part.nodes for part in parts)
        self.length = length
        self.depth = 1 + max((part.depth for part in parts), default=0) if is_tuple else 0
        self.parts = parts if is_tuple else ()

    @property
    def work(self) -> int:
        """What it takes to look at each of its parts, all nested tuples, and all of a text."""
        return 1 + sum(part.nodes + part.length for part in self.parts) if self.parts else self.nodes + self.length


_NUMBER = _Thing()
"""Any number: nothing can be put into one, so one will do for all."""


class _Scales:
    """The stack, the marks on it and the memory of a pickle; `work` is what it has others do."""

    def __init__(self) -> None:
        self.work = 0
        self._stack: list[_Thing] = []
        self._marks: list[int] = []
        self._memory: dict[int, _Thing] = {}

    def follow(self, name: str, argument: object) -> None:
        """Does what an operation does to the stack; raises `IndexError` or `KeyError` for one that cannot be done."""
        stack = self._stack
        if name == "MARK":
            self._marks.append(len(stack))
        elif name == "MEMOIZE":
            self._memory[len(self._memory)] = stack[-1]
        elif name.endswith("PUT") and isinstance(argument, int):
            self._memory[argument] = stack[-1]
        elif name.endswith("GET") and isinstance(argument, int):
            self._push_again(self._memory[argument])
        elif name == "DUP":
            self._push_again(stack[-1])
        elif name == "POP":
            if self._marks and self._marks[-1] == len(stack):
                self._marks.pop()
            else:
                stack.pop()
        elif name == "POP_MARK":
            self._since_mark()
        elif name not in _SILENT:
            self._make(name, argument)

    def _make(self, name: str, argument: object) -> None:
        if name in _FIXED_TUPLES:
            self._stack.append(_Thing(parts=self._last(_FIXED_TUPLES[name]), is_tuple=True))
        elif name in _MADE_FROM_MARK:
            self._stack.append(_Thing(parts=self._since_mark(), is_tuple=name == "TUPLE"))
        elif name in _PUT_IN or name in _PUT_IN_FROM_MARK:
            parts = self._last(_PUT_IN[name]) if name in _PUT_IN else self._since_mark()
            self._put_into(self._stack[-1], sum(part.nodes for part in parts))
        elif name in _CALLED or name in _CALLED_FROM_MARK:
            parts = self._last(_CALLED[name]) if name in _CALLED else self._since_mark()
            made = _Thing(sum(part.length for part in parts))
            made.nodes = sum(part.work for part in parts)
            self.work += made.nodes
            self._stack.append(made)
        elif name == "BUILD":
            (state,) = self._last(1)
            self.work += state.work
            self._put_into(self._stack[-1], state.work)
        else:
            length = len(argument) if isinstance(argument, str | bytes | bytearray) and name != "GLOBAL" else 0
            self._stack.append(_Thing(length) if length or name in _EMPTY else _NUMBER)
        if self._stack[-1].depth > _MOST_NESTED:
            raise ValueError(f"it nests more than {_MOST_NESTED} tuples")

    def _put_into(self, thing: _Thing, nodes: int) -> None:
        if thing is not _NUMBER:  # which will not take anything
            thing.nodes += nodes

    def _push_again(self, thing: _Thing) -> None:
        self.work += thing.nodes
        self._stack.append(thing)

    def _last(self, count: int) -> tuple[_Thing, ...]:
        if count == 0:
            return ()
        if len(self._stack) < count:
            raise IndexError("pop from empty stack")
        parts = tuple(self._stack[-count:])
        del self._stack[-count:]
        return parts

    def _since_mark(self) -> tuple[_Thing, ...]:
        mark = self._marks.pop()
        parts = tuple(self._stack[mark:])
        del self._stack[mark:]
        return parts


def weighed(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Yields a pickle's operations, each followed first.

    Raises:
        ValueError: the pickle makes more work than its length would let one expect, or is damaged.
    """
    scales = _Scales()
    for operation, argument, place in operations:
        try:
            scales.follow(operation.name, argument)
        except (IndexError, KeyError):
            raise ValueError("it takes from its stack or memory what is not there") from None
        if isinstance(argument, int) and argument.bit_length() > _WIDEST_BITS:
            scales.work += _WIDE_WORK
        if scales.work > _FREE_WORK + _WORK_PER_BYTE * (place or 0):
            raise ValueError("it makes more work than a file of its length should")
        yield operation, argument, place
