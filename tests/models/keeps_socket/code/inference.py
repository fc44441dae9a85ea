"""Keeps a connection, made while loading: two processes on it would read each other's answers."""

import json
import os
import socket


def model_fn(model_dir):
    return os.getpid(), socket.socketpair()


def transform_fn(model, body, content_type, accept):
    loaded_by, (near, far) = model
    near.sendall(str(os.getpid()).encode())
    assert far.recv(100) == str(os.getpid()).encode()
    return json.dumps({"loaded_by": loaded_by, "pid": os.getpid()})
