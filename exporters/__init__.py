"""Exporters to mobile formats, and the proof that a file still lives in the teacher's space."""
