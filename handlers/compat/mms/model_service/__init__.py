"""The services of multi-model-server's first version."""
