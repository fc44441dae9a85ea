"""What handler services import of sagemaker-inference, where it is not installed."""
