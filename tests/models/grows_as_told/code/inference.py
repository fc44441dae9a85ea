"""Takes memory in the way and of the size (MiB) that the body says: ``numpy 100``.

Ways: ``numpy`` (in C, at once), ``bytes`` (by Python, at once), ``objects`` (small ones, one after
another), ``shared`` (a mapping that may be shared), ``threads`` (that many), ``child`` (another
process takes it), ``nothing``; with ``stay`` behind the size it then does not answer. What a request took is kept, but by threads and children. With LOAD
it takes that when it is loaded.
"""

import mmap
import os
import subprocess
import sys
import threading

kept = []


def numpy_array(mib):
    import numpy

    return numpy.ones(mib << 17)


def shared(mib):
    mapping = mmap.mmap(-1, mib << 20)
    for start in range(0, mib << 20, 1 << 20):
        mapping[start : start + (1 << 20)] = b"x" * (1 << 20)
    return mapping


def objects(mib):
    found = []
    kept.append(found)  # nothing is given back when there is no memory for more
    for number in range(mib << 13):
        found.append(bytes(100) + bytes([number % 251]))
    return None


def threads(count):
    done = threading.Event()
    started = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=done.wait)
            thread.start()
            started.append(thread)
    finally:
        done.set()
        for thread in started:
            thread.join()
    return None


def child(mib):
    code = f"len(b'x' * ({mib} << 20))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return None


WAYS = {
    "numpy": numpy_array,
    "bytes": lambda mib: b"x" * (mib << 20),
    "objects": objects,
    "shared": shared,
    "threads": threads,
    "child": child,
    "nothing": lambda mib: None,
}


def take(order):
    way, *words = order.split(" ")
    kept.append(WAYS[way](int(words[0]) if words else 0))
    if words[1:] == ["stay"]:
        threading.Event().wait()


def model_fn(model_dir):
    take(os.environ.get("LOAD", "nothing"))
    return "model"


def transform_fn(model, body, content_type, accept):
    take(body if isinstance(body, str) else body.decode())
    return "taken"
