"""The page ``/ui``: its files, and the feed that tells it what changes."""
