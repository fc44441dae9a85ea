"""The container's variables, as scripts read them."""

from __future__ import annotations

from sagemaker_inference import environment

base_dir = environment.base_dir
model_dir = environment.model_dir
code_dir = environment.code_dir


class ServingEnv(environment.Environment):
    """A snapshot of the variables, taken when it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.model_dir = model_dir
        self.module_dir = code_dir
        self.http_port = self.inference_http_port
        self.use_nginx = False
        self.framework_module: str | None = None
