"""Endpoints that run: their variants, the slots that instances fill, what changes them."""
