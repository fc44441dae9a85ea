"""CloudWatch, as much of it as answers what the metrics of endpoints are."""
