"""The frameworks that models are served with: one module each, listed here and nowhere else.

To add one, write a module with the members of ``Framework`` and put it in ``_IN_ORDER``:
docs/how-to/add-a-framework.md shows how. At its top level it may import only the standard library
and this package: the server reads these modules without having any framework loaded.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from handlers.directory.artifacts import Contents
from handlers.frameworks import (
    catboost,
    huggingface,
    lightgbm,
    mxnet,
    onnx,
    python,
    pytorch,
    sklearn,
    tensorflow,
    xgboost,
)
from handlers.types import ModelPlan, Resources


class Framework(Protocol):
    """What a module in this package has."""

    @property
    def NAME(self) -> str:
        """What ``ModelPlan.framework`` and the zygote are called."""

    @property
    def MODULES(self) -> tuple[str, ...]:
        """Top-level imports in a model's code which say that it wants this framework."""

    @property
    def EXTENSIONS(self) -> tuple[str, ...]:
        """Endings of the artifacts that ``load`` reads, the preferred one first."""

    @property
    def PINS(self) -> tuple[str, ...]:
        """Requirements of an environment of its own, for a framework that cannot live with others.

        Empty for one that is installed beside the server.
        """

    @property
    def resident_bytes(self) -> int:
        """About what a zygote with this framework occupies, to plan which ones fit."""

    def installed(self) -> bool:
        """Whether this interpreter has it. Imports nothing."""

    def find_artifact(self, contents: Contents) -> str | None:
        """Which file or directory is the model, or None when none is or several could be.

        Imports nothing, and reads no more than the start of a few files.
        """

    def preload(self) -> None:
        """In the zygote: import everything, and run a tiny model once on one thread.

        Does the imports that a first prediction would do. Never touches a GPU, and never computes
        on a second thread: a pool started before the fork hangs the children.
        """

    def after_fork(self, threads: int) -> None:
        """In a model's process, before its code: computing threads, fresh random state."""

    def load(self, plan: ModelPlan, resources: Resources) -> Any:
        """The model in ``plan.artifact``, ready to predict. Raises ``ModelLoadError``."""

    def input_fn(self, body: bytes, content_type: str) -> Any:
        """Used where a model has no input_fn. May be wrapped in an ``Envelope`` or ``Rows``."""

    def predict_fn(self, data: Any, model: Any) -> Any:
        """Used where a model has no predict_fn."""

    def output_fn(self, prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
        """Used where a model has no output_fn. Returns body and content type."""


_IN_ORDER: tuple[Framework, ...] = (
    huggingface,
    tensorflow,
    pytorch,
    mxnet,
    onnx,
    xgboost,
    lightgbm,
    catboost,
    sklearn,
    python,
)

# By name, in order of precedence: where a model could mean two of them, the earlier is taken.
FRAMEWORKS: dict[str, Framework] = {framework.NAME: framework for framework in _IN_ORDER}


# Names by which tools and conventions say that a file is the model, as ``model.*`` does.
_SURE = re.compile(
    r"model(-[0-9]{4})?\..*|pytorch_model\.bin.*|saved_model\.pb|xgboost-model", re.IGNORECASE
)


MAX_CLAIMS = 32  # files looked at one by one, for an error


def for_artifact(contents: Contents) -> tuple[Framework, str] | None:
    """The framework that serves a directory without code, and its artifact.

    Of several that find one, the first whose artifact is named ``model.*`` or is a directory. None
    if there is no artifact, or if each of several could be meant: ``claims`` tells which.
    """
    found = [
        (framework, artifact)
        for framework in FRAMEWORKS.values()
        if (artifact := framework.find_artifact(contents)) is not None
    ]
    if len(found) > 1:
        found = [claim for claim in found if _is_sure(claim[1], contents)][:1]
    return found[0] if found else None


def _is_sure(artifact: str, contents: Contents) -> bool:
    """Whether it is not just a file that some framework could read."""
    return artifact not in contents.files or _SURE.fullmatch(artifact) is not None


def claims(contents: Contents) -> list[tuple[str, str]]:
    """What could be the model, for an error: each artifact, after its framework's name.

    These are what frameworks find in the directory, and the files that they would find alone.
    """
    found: dict[str, str] = {}
    for directory in (contents, *(contents.only(name) for name in contents.files[:MAX_CLAIMS])):
        for name, framework in FRAMEWORKS.items():
            artifact = framework.find_artifact(directory)
            if artifact is not None:
                found.setdefault(artifact, name)
    return [(name, artifact) for artifact, name in sorted(found.items())]
