"""Notebooks against an endpoint, and ``notebooks.execute``, which runs one from its first cell."""
