"""Parts of multi-model-server's metrics."""
