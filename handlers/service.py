"""Turns a plan into a loaded model, and every exception of the model's code into one of ours.

``Exception`` ends here: the load or the request has failed and the process goes on. SystemExit,
KeyboardInterrupt and their like pass through, for the process to end on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from handlers.context import Context
from handlers.custom_service import load_custom_service
from handlers.errors import HandlerError, ModelLoadError
from handlers.frameworks import FRAMEWORKS
from handlers.manifest import read_manifest
from handlers.sagemaker_functions import load_functions
from handlers.types import (
    HandlerOptions,
    Interface,
    ModelPlan,
    Request,
    Resources,
    Response,
    Service,
)
from handlers.user_code import add_to_path
from handlers.user_errors import load_error, prediction_error

log = logging.getLogger("modelyard.handlers")

ONE_THREAD = Resources()

Loader = Callable[[ModelPlan, Context, HandlerOptions, Resources], Service]

LOADERS: dict[Interface, Loader] = {
    Interface.DEFAULT: load_functions,
    Interface.SAGEMAKER: load_functions,
    Interface.CUSTOM_SERVICE: load_custom_service,
}


class LoadedModel:
    """A service whose code may raise anything, answering with a response or a HandlerError."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def takes_batches(self) -> bool:
        """Whether requests are handled together."""
        return self._service.takes_batches

    def invoke(self, request: Request) -> Response:
        """Answer one request, or raise a ``HandlerError`` whose cause is what the code raised."""
        try:
            return self._service.invoke(request)
        except HandlerError:
            raise
        except Exception as error:
            raise prediction_error(error) from error

    def invoke_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        """Answer requests together; when that raises, each alone, so that one fails nobody else."""
        if len(batch) > 1:
            try:
                return self._service.invoke_batch(batch)
            except Exception as error:
                log.warning("a batch of %d failed, each goes alone: %r", len(batch), error)
        return [self._alone(request) for request in batch]

    def _alone(self, request: Request) -> Response | HandlerError:
        try:
            return self.invoke(request)
        except HandlerError as error:
            return error


def load_service(
    plan: ModelPlan,
    *,
    model_name: str,
    options: HandlerOptions,
    resources: Resources = ONE_THREAD,
) -> Service:
    """Load a model in this process: its framework, its code, its weights.

    Raises ``ModelLoadError``, with status 507 when memory was short; its cause is what the model's
    code raised. ``sys.path`` keeps the model's directories.
    """
    try:
        return LoadedModel(_load(plan, model_name, options, resources))
    except ModelLoadError:
        raise
    except Exception as error:
        raise load_error(error) from error


def _load(
    plan: ModelPlan, model_name: str, options: HandlerOptions, resources: Resources
) -> Service:
    framework = FRAMEWORKS[plan.framework]
    if framework.installed():
        framework.after_fork(resources.threads)
    add_to_path(plan.code_dirs)
    context = Context(
        model_name=model_name,
        model_dir=plan.model_dir,
        manifest=read_manifest(Path(plan.model_dir)),
        gpu_id=resources.gpu_id,
        batch_size=plan.settings.batch_size,
    )
    return LOADERS[plan.interface](plan, context, options, resources)
