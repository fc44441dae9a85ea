"""The documentation: what is made from the code, and how pages are read to be run.

``./scripts/docs`` is its command. Hand-written pages lie in docs/. Those in docs/reference/ that
tell what the code knows are made from templates here: the text is written, the tables are not.
"""
