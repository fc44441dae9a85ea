"""The conventions that models' own code follows, and how that code is called."""
