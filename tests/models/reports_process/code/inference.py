"""Answers with what its process looks like from inside."""

import json
import os
import sys


def model_fn(model_dir):
    return model_dir


def transform_fn(model, body, content_type, accept):
    return json.dumps(
        {
            "pid": os.getpid(),
            "pid_namespace": os.readlink("/proc/self/ns/pid"),
            "model_dir": model,
            "cwd": os.getcwd(),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "sys_path": sys.path[:3],
        }
    )
