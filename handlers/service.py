"""Turns a plan into a loaded model, and every exception of the model's code into one of ours.

``Exception`` ends here: the load or the request has failed and the process goes on. SystemExit,
KeyboardInterrupt and their like pass through, for the process to end on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from handlers.directory.manifest import read_manifest
from handlers.directory.programs import library_environment
from handlers.directory.torchserve_config import torchserve_config
from handlers.errors import HandlerError, ModelLoadError, ParkingFailed
from handlers.frameworks import FRAMEWORKS
from handlers.interfaces.awaiting import has_event_loop
from handlers.interfaces.context import Context
from handlers.interfaces.custom_service import load_custom_service
from handlers.interfaces.sagemaker_functions import load_functions
from handlers.interfaces.torchserve import load_torchserve
from handlers.interfaces.triton import load_triton
from handlers.interfaces.user_code import add_to_path
from handlers.interfaces.user_errors import (
    INSUFFICIENT_STORAGE,
    describe,
    is_out_of_memory,
    load_error,
    prediction_error,
)
from handlers.types import (
    HandlerOptions,
    Interface,
    ModelPlan,
    Parking,
    Request,
    Resources,
    Response,
    Service,
)

log = logging.getLogger("modelyard.handlers")

ONE_THREAD = Resources()

# Modules of our own for what handlers import of the packages that they were written for.
_COMPAT = str(Path(__file__).parent / "compat")

Loader = Callable[[ModelPlan, Context, HandlerOptions, Resources], Service]

LOADERS: dict[Interface, Loader] = {
    Interface.DEFAULT: load_functions,
    Interface.SAGEMAKER: load_functions,
    Interface.CUSTOM_SERVICE: load_custom_service,
    Interface.TORCHSERVE: load_torchserve,
    Interface.TRITON: load_triton,
}


class LoadedModel:
    """A service whose code may raise anything, answering with a response or a HandlerError."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.parking = service.parking

    @property
    def takes_batches(self) -> bool:
        """Whether requests are handled together."""
        return self._service.takes_batches

    @property
    def can_fork(self) -> bool:
        """Whether nothing here would be shared by a fork that must not be: no event loop."""
        return not has_event_loop()

    def park(self) -> None:
        """Release the memory of its GPU, or raise a ``HandlerError``, and go on as before."""
        with _told_as_parking():
            self._parking().park()

    def restore(self) -> None:
        """Come back to its GPU, or raise a ``HandlerError``, and stay parked."""
        with _told_as_parking():
            self._parking().restore()

    def finalize(self) -> None:
        """Let the model's code clean up before its process ends. What it raises is logged."""
        finalize = getattr(self._service, "finalize", None)
        if finalize is None:
            return
        try:
            finalize()
        except Exception:
            log.exception("finalize failed")

    def _parking(self) -> Parking:
        if self.parking is None:
            raise ParkingFailed("The model is not on a GPU, or does not know how to leave it.")
        return self.parking

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
        answers = self.try_batch(batch) if len(batch) > 1 and self.takes_batches else None
        return [self._alone(request) for request in batch] if answers is None else answers

    def try_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError] | None:
        """Answer requests together; None when the code raised, and each should be tried alone."""
        try:
            return self._service.invoke_batch(batch)
        except Exception as error:
            log.warning("a batch of %d failed, each goes alone: %s", len(batch), describe(error))
            return None

    def _alone(self, request: Request) -> Response | HandlerError:
        try:
            return self.invoke(request)
        except HandlerError as error:
            return error


@contextmanager
def _told_as_parking() -> Iterator[None]:
    try:
        yield
    except HandlerError:
        raise
    except Exception as error:
        status = INSUFFICIENT_STORAGE if is_out_of_memory(error) else None
        raise ParkingFailed(describe(error), status=status) from error


def load_service(
    plan: ModelPlan,
    *,
    model_name: str,
    options: HandlerOptions,
    resources: Resources = ONE_THREAD,
) -> LoadedModel:
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
    for name, value in plan.settings.environment:  # ``update`` asks abc, which copies 0.4 MiB
        os.environ[name] = value
    for name, value in library_environment(options).items():
        os.environ.setdefault(name, value)
    framework = FRAMEWORKS[plan.framework]
    if framework.installed():
        framework.after_fork(resources.threads)
    add_to_path(plan.code_dirs)
    if _COMPAT not in sys.path:
        sys.path.append(_COMPAT)  # last: packages that are installed come before
    manifest = read_manifest(Path(plan.model_dir))
    context = Context(
        model_name=model_name,
        model_dir=plan.model_dir,
        manifest=manifest,
        config=torchserve_config(Path(plan.model_dir), manifest)[0],
        gpu_id=resources.gpu_id,
        batch_size=plan.settings.batch_size,
    )
    return LOADERS[plan.interface](plan, context, options, resources)
