"""Which kind of source a location is, by its content, and options that are for another kind."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.vectors import SOURCES
from aml_edge.vectors.opening import open_vectors
from aml_edge.vectors.source import SourceOptions

KINDS = (
    "the URL of a Qdrant server (http://HOST:PORT), a NumPy array (.npy), a NumPy archive (.npz), a Parquet file or a "
    "folder of them, a FAISS file, a folder of Qdrant's local mode"
)


def test_content_decides_and_not_the_name(tmp_path: Path, vectors: npt.NDArray[np.float32]) -> None:
    file = tmp_path / "team.faiss"
    with file.open("wb") as stream:
        np.save(stream, vectors)
    with closing(open_vectors(str(file))) as opened:
        assert opened.description.kind == "NumPy array"
        assert opened.files == (file,)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://localhost:6333", "qdrant-server"),
        ("https://qdrant.example/prefix", "qdrant-server"),
        ("C:/x.npy", None),
    ],
)
def test_a_url_is_a_server(location: str, kind: str | None) -> None:
    assert [name for name, one in SOURCES.items() if one.recognises(location)] == ([] if kind is None else [kind])


def test_what_is_not_there_or_none_of_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as missing:
        open_vectors(str(tmp_path / "no.npy"))
    assert str(missing.value) == (
        f"`source` is '{tmp_path / 'no.npy'}', which is not there; vectors are read from: {KINDS}."
    )
    (tmp_path / "text.csv").write_text("1,2,3\n")
    with pytest.raises(ForeignIndexError) as strange:
        open_vectors(str(tmp_path / "text.csv"))
    assert str(strange.value) == (
        f"`source` is '{tmp_path / 'text.csv'}', which holds none that are known here; vectors are read from: {KINDS}."
    )
    with pytest.raises(ForeignIndexError, match="which holds none that are known here"):
        open_vectors(str(tmp_path))


def test_options_of_another_kind_are_refused(tmp_path: Path, vectors: npt.NDArray[np.float32]) -> None:
    np.save(tmp_path / "team.npy", vectors)
    with pytest.raises(UsageError) as refusal:
        open_vectors(str(tmp_path / "team.npy"), SourceOptions(id_column="id", collection="c"))
    assert str(refusal.value) == (
        f"`source` is '{tmp_path / 'team.npy'}', a NumPy array (.npy), which has no use for --id-column, --collection; "
        "leave it out."
    )
