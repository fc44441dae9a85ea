"""What scripts import of SageMaker's PyTorch container, where it is not installed."""
