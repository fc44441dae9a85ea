"""Runs a notebook from its first cell to its last, and writes it down with what it printed.

``python -m notebooks.execute NOTEBOOK OUTPUT [--python INTERPRETER]``: the interpreter's
environment must have ipykernel. Exit code 1: a cell failed, and standard error says which.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

# For one cell: endpoints that are created on AWS take some minutes.
_CELL_SECONDS = 1800
_START_SECONDS = 300


class _Interpreter(KernelSpecManager):  # type: ignore[misc]
    """Knows one kernel: that of an interpreter."""

    python = sys.executable

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Whatever its name, it is this."""
        argv = [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


def execute(notebook: Path, output: Path, python: str) -> None:
    """Run it in an empty directory. Raises CellExecutionError and DeadKernelError."""
    book = nbformat.read(notebook, as_version=4)
    specs = _Interpreter()
    specs.python = python
    # Sockets in a directory of its own: ports could be taken by others.
    with tempfile.TemporaryDirectory() as sockets, tempfile.TemporaryDirectory() as directory:
        kernel = AsyncKernelManager(
            kernel_spec_manager=specs, transport="ipc", ip=f"{sockets}/kernel"
        )
        client = NotebookClient(
            book,
            km=kernel,
            timeout=_CELL_SECONDS,
            startup_timeout=_START_SECONDS,
            resources={"metadata": {"path": directory}},
        )
        try:
            asyncio.run(_executed(client, kernel))
        finally:
            nbformat.write(book, output)


async def _executed(client: NotebookClient, kernel: AsyncKernelManager) -> None:
    try:
        await client.async_execute()
    finally:
        if kernel.has_kernel:
            await kernel.shutdown_kernel(now=True)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--python", default=sys.executable, help="of the kernel; default: ours")
    asked = parser.parse_args()
    try:
        execute(asked.notebook, asked.output, asked.python)
    except (CellExecutionError, DeadKernelError) as error:
        sys.stderr.write(f"{asked.notebook}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
