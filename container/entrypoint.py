"""What the image runs: ``serve``, SageMaker's word for it."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from container.environment import (
    add_options,
    current_environment,
    settings_from,
    unknown_variables,
)
from container.submit_directory import submitted_code
from model_server import logs
from model_server.controller import Controller
from model_server.run_dir import RunDir
from model_server.settings import TCP_BACKLOG, Settings, SettingsError


def serve() -> None:
    """The console script ``serve``."""
    sys.exit(run(sys.argv[1:]))


def serve_as_subcommand(arguments: Sequence[str]) -> int:
    """``modelyard serve``."""
    return run(arguments, program="modelyard serve")


def run(arguments: Sequence[str], *, program: str = "serve") -> int:
    """Serve until told to stop; returns the exit code, 2 if it cannot start.

    ``program`` is what the help calls this.
    """
    environment = current_environment()
    with ExitStack() as stack:
        try:
            settings = settings_from(Settings, environment, _options(arguments, program))
            settings = stack.enter_context(submitted_code(settings, environment))
            listener = _listen(settings)
            run_dir = RunDir.create(settings.run_dir)
        except (SettingsError, OSError) as error:
            print(f"modelyard cannot start: {error}", file=sys.stderr)  # noqa: T201 - no log yet
            return 2
        return _serve(settings, environment, listener, run_dir)


def _serve(
    settings: Settings, environment: dict[str, str], listener: socket.socket, run_dir: RunDir
) -> int:
    _allow_many_descriptors()
    address = "{}:{}".format(*listener.getsockname()[:2])
    log_writer = logs.configure_in_background(settings.log_level, settings.log_format)
    mode = "many models" if settings.multi_model else f"the model in {settings.model_dir}"
    logs.logger.info("listening on %s, for %s", address, mode)
    for name, meant in unknown_variables(environment).items():
        hint = f"; did you mean {meant}?" if meant else ""
        logs.logger.warning("%s is no setting%s", name, hint)
    try:
        asyncio.run(Controller(settings, environment, gateway_command).run(listener, run_dir))
    except SettingsError as error:  # of a file that a setting names
        logs.logger.error("modelyard cannot start: %s", error)
        return 2
    finally:
        log_writer.stop()
    return 0


def _allow_many_descriptors() -> None:
    """The controller keeps two for each model; many systems allow 1,024 unless asked."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _options(arguments: Sequence[str], program: str) -> dict[str, str]:
    """The settings given on the command line."""
    parser = argparse.ArgumentParser(
        prog=program, description="Serve models over the SageMaker contract.", allow_abbrev=False
    )
    add_options(parser, Settings)
    return vars(parser.parse_args(arguments))


def _listen(settings: Settings) -> socket.socket:
    """The port. Opened here, so that a port in use is an error at once."""
    try:
        return socket.create_server((settings.host, settings.port), backlog=TCP_BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise OSError(f"cannot listen on {where}: {os.strerror(error.errno or 0)}") from error


def gateway_command(
    settings: Settings, run_dir: RunDir, listener_fd: int, lifeline_fd: int
) -> list[str]:
    """How gunicorn is started for this server."""
    return [
        sys.executable, "-P", "-m", "container.gunicorn_main", str(lifeline_fd),
        "--config", "python:container.gunicorn_config",
        "--worker-class", "container.gunicorn_worker.GatewayWorker",
        "--logger-class", f"container.gunicorn_config.{settings.log_format.title()}Logger",
        "--workers", str(settings.gateways or _default_gateways()),
        "--bind", f"fd://{listener_fd}",
        "--worker-tmp-dir", run_dir.path,
        "--graceful-timeout", str(int(settings.drain_timeout_seconds) + 1),
        f"container.gunicorn_worker:application({run_dir.path!r}, {lifeline_fd})",
    ]  # fmt: skip


def _default_gateways() -> int:
    """One serves some 10,000 requests a second; models need the other cores."""
    return min(max((os.cpu_count() or 1) // 4, 1), 8)


if __name__ == "__main__":
    serve()
