"""`ApproximateDatabase`: an approximate index, or several of one factory whose rows follow each other, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.approximate.approximate_index import ApproximateIndex, open_approximate
from aml_edge.approximate.specification import ApproximateSpec
from aml_edge.embedder import Embeddings
from aml_edge.index import TeacherIndex
from aml_edge.search import TopK


@dataclass(frozen=True, eq=False)
class ApproximateDatabase:
    """What is searched approximately; `open_database` makes it.

    Args:
        parts: at least one; each is searched, and the best of all are kept, by what FAISS takes their similarities for.
    """

    parts: tuple[ApproximateIndex, ...]

    @property
    def description(self) -> str:
        """The factory and the parameters of a search."""
        return self.parts[0].description

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(part.record.count for part in self.parts)

    def search(self, query_embeddings: Embeddings, k: int) -> TopK:
        """Returns the k best of what each part finds, rows counted through all parts; else as a part's search."""
        if len(self.parts) == 1:
            return self.parts[0].search(query_embeddings, k)
        found = [part.search(query_embeddings, k) for part in self.parts]
        starts = np.cumsum([0, *(part.record.count for part in self.parts[:-1])])
        numbered = (np.where(one.rows < 0, -1, one.rows + start) for one, start in zip(found, starts, strict=True))
        rows = np.concatenate(list(numbered), axis=1)
        similarities = np.concatenate([one.similarities for one in found], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, : min(k, self.count)]
        return TopK(np.take_along_axis(rows, best, axis=1), np.take_along_axis(similarities, best, axis=1))

    def places_after(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Returns each row's place in a database of these images of the first part and then all rows of the others.

        Rows of the first part that are not among them have −1, and so has what comes after the last row, which −1 is.

        Raises:
            TeacherIndexError: the first part lacks images; they are named.
        """
        first = self.parts[0].record.count
        places = np.full(self.count + 1, -1, np.int64)
        places[self.parts[0].index.rows_of(ids)] = np.arange(len(ids))
        places[first:-1] = len(ids) + np.arange(self.count - first)
        return places


def open_database(indexes: Sequence[TeacherIndex], spec: ApproximateSpec) -> ApproximateDatabase:
    """Returns the approximate indexes of one or more indexes, in memory; raises as `open_approximate`."""
    return ApproximateDatabase(tuple(open_approximate(index, spec) for index in indexes))
