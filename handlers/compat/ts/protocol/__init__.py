"""Parts of TorchServe, where it is not installed."""
