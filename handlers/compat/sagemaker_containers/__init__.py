"""What scripts import of sagemaker-containers, where it is not installed."""
