"""Processes: how they are started, forked, watched and ended, and what runs in a worker."""
