"""Models to learn from and to try the server with; README.md lists them."""
