"""The ``code/inference.py`` of each benchmark model, run unchanged by both servers."""
