"""Bodies to values and back."""
