"""Approximate search of a teacher's index: FAISS structures that lie beside its rows, and what they find.

The rows stay what they are; `aml_edge.search` searches them exactly. FAISS is the extra ``faiss``.
"""
