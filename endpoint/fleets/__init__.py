"""Where containers run: a file for each kind of place."""
