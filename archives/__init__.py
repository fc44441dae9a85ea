"""From a model's archive, a file or a stream, to its directory. Imports nothing of ours."""
