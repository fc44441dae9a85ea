"""Packages that models bring: directories of them, built by pip and kept."""
