"""The command line: ``modelyard serve``, ``check``, ``pack``."""
