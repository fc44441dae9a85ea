"""Helpers of multi-model-server for handlers."""
