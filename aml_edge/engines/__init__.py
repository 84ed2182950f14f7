"""Where an index's shards are embedded: in this process, or by the workers of a Ray cluster."""

from collections.abc import Callable, Mapping

from aml_edge.engines.local_engine import open_local_engine
from aml_edge.engines.ray_engine import open_ray_engine
from aml_edge.engines.recipe import EmbedderRecipe, EngineOptions, TeacherRecipe
from aml_edge.index.shard_embedding import ShardEngine

ENGINES: Mapping[str, Callable[[EmbedderRecipe, EngineOptions], ShardEngine]] = {
    "local": open_local_engine,
    "ray": open_ray_engine,
}
"""What makes an engine of each name."""

__all__ = ["ENGINES", "EmbedderRecipe", "EngineOptions", "TeacherRecipe"]
