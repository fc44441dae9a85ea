"""Which variant, which instance, how many copies: pure decisions."""
