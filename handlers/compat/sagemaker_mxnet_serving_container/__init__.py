"""What scripts import of SageMaker's MXNet container, where it is not installed."""
