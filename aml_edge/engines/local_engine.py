"""The engine 'local': shards are embedded one after the other in this process."""

from __future__ import annotations

from aml_edge.engines.recipe import EmbedderRecipe, EngineOptions, reading_threads
from aml_edge.errors import UsageError
from aml_edge.index.shard_embedding import InThisProcess, ShardEngine


def open_local_engine(recipe: EmbedderRecipe, options: EngineOptions) -> ShardEngine:
    """Returns the engine.

    Raises:
        UsageError: an address is given, which it has no use for.
        RuntimeUnavailableError: this machine lacks the device.
    """
    if options.address is not None:
        raise UsageError(f"`address` is {options.address!r}, but the engine 'local' has none; give --engine ray.")
    return InThisProcess(recipe.open(), options.workers or reading_threads(recipe.device))
