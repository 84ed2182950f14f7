"""Training a student onto a frozen index."""
