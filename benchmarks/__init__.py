"""Measures Modelyard beside AWS multi-model-server, in one run on one machine.

Run it with ``scripts/bench``. Both servers get the same model directories, the same requests and
the same measuring code; nothing in here imports the server, it only talks to it over HTTP.
"""
