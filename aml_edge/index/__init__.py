"""A teacher's index: opening, building, checking, whitening.

`aml_edge.index.teacher_index` says what one is; nothing here changes one.
"""

from aml_edge.index.teacher_index import EMBEDDINGS_FILE, IDS_FILE, WHITENING_FILE, TeacherIndex, encode_ids, open_index

__all__ = ["EMBEDDINGS_FILE", "IDS_FILE", "WHITENING_FILE", "TeacherIndex", "encode_ids", "open_index"]
