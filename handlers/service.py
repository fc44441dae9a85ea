"""Turns a plan into a loaded model, and every exception of the model's code into one of ours.

``Exception`` ends here: the load or the request has failed and the process goes on. SystemExit,
KeyboardInterrupt and their like pass through, for the process to end on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from handlers.context import Context
from handlers.custom_service import load_custom_service
from handlers.errors import HandlerError, ModelLoadError
from handlers.frameworks import FRAMEWORKS
from handlers.manifest import read_manifest
from handlers.sagemaker_functions import load_functions
from handlers.types import HandlerOptions, Interface, ModelPlan, Request, Response, Service
from handlers.user_code import add_to_path
from handlers.user_errors import load_error, prediction_error

LOADERS: dict[Interface, Callable[[ModelPlan, Context, HandlerOptions], Service]] = {
    Interface.DEFAULT: load_functions,
    Interface.SAGEMAKER: load_functions,
    Interface.CUSTOM_SERVICE: load_custom_service,
}


class LoadedModel:
    """A service whose code may raise anything, answering with a response or a HandlerError."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def invoke(self, request: Request) -> Response:
        """Answer one request, or raise a ``HandlerError`` whose cause is what the code raised."""
        try:
            return self._service.invoke(request)
        except HandlerError:
            raise
        except Exception as error:
            raise prediction_error(error) from error


def load_service(
    plan: ModelPlan,
    *,
    model_name: str,
    options: HandlerOptions,
    threads: int = 1,
    gpu_id: int | None = None,
) -> Service:
    """Load a model in this process: its framework, its code, its weights.

    Raises ``ModelLoadError``, with status 507 when memory was short; its cause is what the model's
    code raised. ``sys.path`` keeps the model's directories.
    """
    try:
        return LoadedModel(_load(plan, model_name, options, threads, gpu_id))
    except ModelLoadError:
        raise
    except Exception as error:
        raise load_error(error) from error


def _load(
    plan: ModelPlan, model_name: str, options: HandlerOptions, threads: int, gpu_id: int | None
) -> Service:
    framework = FRAMEWORKS[plan.framework]
    if framework.installed():
        framework.after_fork(threads)
    add_to_path(plan.code_dirs)
    context = Context(
        model_name=model_name,
        model_dir=plan.model_dir,
        manifest=read_manifest(Path(plan.model_dir)),
        gpu_id=gpu_id,
    )
    return LOADERS[plan.interface](plan, context, options)
