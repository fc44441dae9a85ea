"""A PyTorch module of one's own, served from its weights and its class."""
