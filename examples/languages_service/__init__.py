"""A multi-model-server custom service, archived as for that server."""
