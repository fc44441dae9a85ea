"""A guided tour of an endpoint of twelve models: ``scripts/demo``."""
