"""Models' directories on an instance's disk, within a budget."""
