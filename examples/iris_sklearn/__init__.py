"""A scikit-learn pipeline, served without any code of its own."""
