"""Readers of retrieval data sets, and one that is made here."""
