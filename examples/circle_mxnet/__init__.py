"""A gluon network exported as symbol and parameters."""
