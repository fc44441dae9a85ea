"""One running container and the models in it."""
