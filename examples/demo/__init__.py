"""A guided tour of the server with three of the examples: ``scripts/demo``."""
