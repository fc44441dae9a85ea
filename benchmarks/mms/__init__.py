"""What runs inside multi-model-server's own environment, ``.venv-mms``."""
