"""`open_vectors`: which kind of source a location is, found by its content, and that source opened."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from aml_edge.errors import ForeignIndexError, UsageError, unusable_path
from aml_edge.vectors import SOURCES
from aml_edge.vectors.source import SourceOptions, VectorSource


def open_vectors(location: str, options: SourceOptions | None = None) -> VectorSource:
    """Returns the vectors at a location; close it after use.

    Args:
        location: a path, or the URL of a server.
        options: what to take of it.

    Raises:
        ForeignIndexError: it is none of the kinds that are read, or is damaged.
        UsageError: nothing is there, or an option is for another kind, or names nothing.
        MissingExtraError: what reads it is not installed.
    """
    options = options or SourceOptions()
    kind = next((kind for kind in SOURCES.values() if kind.recognises(location)), None)
    if kind is None:
        kinds = ", ".join(kind.name for kind in SOURCES.values())
        there = "holds none that are known here" if Path(location).exists() else "is not there"
        message = f"`source` is '{location}', which {there}; vectors are read from: {kinds}."
        raise unusable_path(Path(location), message, ForeignIndexError)
    strange = [name for name, value in asdict(options).items() if value is not None and name not in kind.options]
    if strange:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise UsageError(f"`source` is '{location}', {kind.name}, which has no use for {given}; leave it out.")
    return kind.open(location, options)
