"""The endpoint: what the multi-model platform does around serving containers.

It speaks the platform's APIs to clients (``api``), keeps models' archives on the disk of each
instance (``objects``, ``cache``), has containers load, unload and invoke them over HTTP
(``instances``), starts those containers (``fleets``) and decides where requests go (``routing``).
Knows containers by their HTTP contract only.
"""
