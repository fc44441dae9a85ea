"""What stands between a handler and the shape of its requests."""
