"""The SageMaker SDKs against an endpoint, unchanged."""
