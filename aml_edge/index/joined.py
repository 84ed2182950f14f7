"""`JoinedIndex`: the rows of a data set in one index, and after them all rows of others, e.g. a million distractors.

Nothing is copied: each part stays where it is, and is read there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.index.images import read_image_hashes
from aml_edge.index.row_views import JoinedRows, SelectedRows
from aml_edge.index.teacher_index import TeacherIndex
from aml_edge.space import require_same_space

_LISTED = 5


@dataclass(frozen=True, eq=False)
class JoinedIndex:
    """Several indexes as one database; `join_indexes` makes it.

    Args:
        first: whose rows come first.
        others: whose rows follow, in this order.
    """

    first: TeacherIndex
    others: tuple[TeacherIndex, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """(M,) of all rows."""
        return tuple(one for part in (self.first, *self.others) for one in part.ids)

    @property
    def distractors(self) -> int:
        """How many rows follow those of the first."""
        return sum(len(part.ids) for part in self.others)

    @property
    def checked_embeddings(self) -> JoinedRows:
        """(M, D) float32, of which none is read that cannot be an embedding."""
        return JoinedRows([part.checked_embeddings for part in (self.first, *self.others)])

    def rows_after(self, ids: Sequence[str]) -> JoinedRows:
        """Returns the rows of these images of the first index, in their order, and then all rows of the others.

        Raises:
            TeacherIndexError: the first index lacks images; they are named.
        """
        mine = SelectedRows(self.first.checked_embeddings, self.first.rows_of(ids))
        return JoinedRows([mine, *(part.checked_embeddings for part in self.others)])


def join_indexes(first: TeacherIndex, *others: TeacherIndex) -> JoinedIndex:
    """Returns indexes of the same space, made alike, as one database.

    Raises:
        SpaceMismatchError: one lives in another space than the first; both are named.
        UsageError: one saw its images at another size, fit or scales than the first.
        TeacherIndexError: an image is in two of them: the same name, unless its bytes are known to differ.
    """
    for place, other in enumerate(others):
        _require_made_alike(first, other)
        for before in (first, *others[:place]):
            _require_other_images(before, other)
    return JoinedIndex(first, others)


def join_fitting(indexes: Sequence[TeacherIndex], distractors: Sequence[TeacherIndex]) -> tuple[JoinedIndex, ...]:
    """Returns each index, joined to those distractors that were made as it was.

    Raises:
        SpaceMismatchError, UsageError: distractors fit none of the indexes; the first of these and they are named.
        TeacherIndexError: an image is in an index and in its distractors.
    """
    for other in distractors:
        if not indexes:
            raise UsageError(f"`distractors` is {other.path}, but there is no index for it to follow; add --index.")
        if not any(_is_made_alike(one, other) for one in indexes):
            _require_made_alike(indexes[0], other)
    return tuple(join_indexes(one, *(other for other in distractors if _is_made_alike(one, other))) for one in indexes)


def _is_made_alike(first: TeacherIndex, other: TeacherIndex) -> bool:
    return first.space.fingerprint == other.space.fingerprint and not _differences(first, other)


def _require_made_alike(first: TeacherIndex, other: TeacherIndex) -> None:
    """Raises where two indexes would not make one database: what came from which could be told by how it was made."""
    left, right = f"the index {other.path}", f"the index {first.path}"
    require_same_space(other.space, first.space, left_name=left, right_name=right)
    differences = _differences(first, other)
    if differences:
        raise UsageError(
            f"{left} saw its images otherwise than {right} ({'; '.join(differences)}); "
            "one database is made in one way: build one of them again as the other."
        )


def _require_other_images(before: TeacherIndex, index: TeacherIndex) -> None:
    """Raises where an image is in both indexes; two folders may each have a file of one name, with other bytes."""
    shared = set(before.ids).intersection(index.ids)
    if not shared:
        return
    mine, theirs = ({one: sha256 for one, sha256 in _hashes(each) if one in shared} for each in (index, before))
    known = {one for one in shared if mine[one] is not None and theirs[one] is not None}
    twice = [one for one in index.ids if one in shared and (one not in known or mine[one] == theirs[one])]
    if twice:
        shown = ", ".join(twice[:_LISTED]) + (", …" if len(twice) > _LISTED else "")
        raise TeacherIndexError(
            f"the index {index.path} holds {len(twice)} images that an index before it holds too ({shown}); each "
            "image is to be in the database once: give indexes of different images."
        )


def _hashes(index: TeacherIndex) -> Iterator[tuple[str, str | None]]:
    """Yields each image's name and the SHA-256 of its bytes; None where the index does not say it."""
    return zip(index.ids, read_image_hashes(index) or repeat(None), strict=False)  # endless where not known


def _differences(first: TeacherIndex, other: TeacherIndex) -> list[str]:
    """Returns what the images went through, as far as it differs, the other's first."""
    ours, theirs = ({**one.preprocessing.to_json(), "scales": list(one.scales)} for one in (first, other))
    return [f"{name} {theirs[name]}, not {ours[name]}" for name in ours if ours[name] != theirs[name]]
