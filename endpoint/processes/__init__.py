"""Processes that outlive us: their life, what they start, take and print."""
