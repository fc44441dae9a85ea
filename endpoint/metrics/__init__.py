"""What the platform tells CloudWatch, by its names and units, and the same for each model."""
