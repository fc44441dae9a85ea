"""What handlers import of multi-model-server, where it is not installed.

Like all of ``handlers/compat``: imported by models' code, after our packages have been hidden, so
nothing here may import them.
"""
