"""A class of the user's own, served through SageMaker's functions."""
