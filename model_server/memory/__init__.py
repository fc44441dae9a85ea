"""What decides about memory: pure functions and plain data, no clock, no effects.

The server and the simulation (``modelyard replay``) run the same code; only their clocks differ.
"""
