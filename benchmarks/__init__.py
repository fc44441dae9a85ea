"""Measures Modelyard beside AWS multi-model-server, in one run on one machine.

Run it with ``scripts/bench``. Both servers get the same model directories, the same requests and
the same measuring code, which only talks to them over HTTP. What only Modelyard does is measured in
the same way, except for one time that cannot be seen from outside (``worker_times``).
"""
