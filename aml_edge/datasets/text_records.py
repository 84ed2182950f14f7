"""Lines and records of a data set's text files, checked line by line: none is read whole, none may be endless.

The files are written by programs: UTF-8, one record a line, fields that need no quotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from aml_edge.errors import DatasetError

LONGEST_LINE_BYTES = 2**24
"""The longest published one names ten thousand images of one landmark, in 170 kB."""
_BYTE_ORDER_MARK = "\ufeff"


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (number from 1, text without its end) of each line that is not empty.

    Raises:
        DatasetError: the file cannot be read, is not UTF-8, or has a line that is too long.
    """
    try:
        with path.open("rb") as stream:
            number = 0
            while line := stream.readline(LONGEST_LINE_BYTES + 1):
                number += 1
                if len(line) > LONGEST_LINE_BYTES:
                    raise DatasetError(
                        f"{path}: line {number} is longer than {LONGEST_LINE_BYTES} bytes; get it again."
                    )
                text = line.decode().rstrip("\r\n")
                if number == 1:
                    text = text.removeprefix(_BYTE_ORDER_MARK)
                if text:
                    yield number, text
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: line {number} is not UTF-8; get the file again.") from None
    except OSError as problem:
        raise DatasetError(f"{path} cannot be read: {problem.strerror}.") from None


def records_of(
    path: Path, fields: Sequence[str], separator: str = ",", *, titled: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yields (line's number, fields) of each record.

    Args:
        path: the file.
        fields: their names, in order.
        separator: of fields.
        titled: whether the first line names the fields.

    Raises:
        DatasetError: as `lines_of`; the first line names other fields, a record has more or fewer, or there is none.
    """
    lines = lines_of(path)
    if titled:
        _, first = next(lines, (0, ""))
        if first.split(separator) != list(fields):
            wanted = separator.join(fields)
            raise DatasetError(f"{path} begins with {first[:100]!a}; a file of this layout begins with {wanted!a}.")
    none = True
    for number, text in lines:
        record = text.split(separator)
        if len(record) != len(fields):
            raise DatasetError(
                f"{path}: line {number} has {len(record)} fields; it must have {len(fields)}: {', '.join(fields)}."
            )
        none = False
        yield number, record
    if none:
        raise DatasetError(f"{path} holds no records; get it again.")


def number_of(text: str, where: str) -> int:
    """Returns a whole number from 0; `where` begins the message where it is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise DatasetError(f"{where} is {text[:100]!a}, which is no whole number.")
    return int(text)
