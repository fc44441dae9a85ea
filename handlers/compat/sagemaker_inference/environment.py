"""The container's variables as the package's own code reads them."""

from __future__ import annotations

import os

from sagemaker_inference import content_types, parameters

base_dir = os.environ.get(parameters.BASE_PATH_ENV, "/opt/ml")
_many = os.environ.get(parameters.MULTI_MODEL_ENV) == "true"
model_dir = os.path.join(base_dir, "models" if _many else "model")  # noqa: PTH118 - is a str
code_dir = os.path.join(model_dir, "code")  # noqa: PTH118


class Environment:
    """A snapshot of the variables, taken when it is made."""

    def __init__(self) -> None:
        env = os.environ
        program = env.get(parameters.USER_PROGRAM_ENV, "inference.py")
        self.module_name: str = program.removesuffix(".py")
        self.model_server_timeout = int(env.get(parameters.MODEL_SERVER_TIMEOUT_ENV, "60"))
        self.model_server_workers = env.get(parameters.MODEL_SERVER_WORKERS_ENV)
        self.default_accept: str = env.get(
            parameters.DEFAULT_INVOCATIONS_ACCEPT_ENV, content_types.JSON
        )
        self.inference_http_port: str = env.get(parameters.BIND_TO_PORT_ENV, "8080")
        self.management_http_port = self.inference_http_port
        self.safe_port_range = env.get(parameters.SAFE_PORT_RANGE_ENV)
