"""What a model's directory says: read, and never run."""
