"""The HTTP side: stateless processes that know models by their sockets only."""
