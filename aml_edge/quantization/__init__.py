"""Fake quantization of a student: what an int8 file computes, in PyTorch, before there is a file."""
