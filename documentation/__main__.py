"""``./scripts/docs``: make the pages that come from the code, and the site."""

from __future__ import annotations

import argparse
import subprocess
import sys

from container.environment import current_environment
from documentation import generated

SITE = generated.ROOT / ".site"


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description=__doc__)
    parser.add_argument("command", choices=("generate", "check", "build", "serve"))
    match parser.parse_args().command:
        case "generate":
            return _generate()
        case "check":
            return _check()
        case "build":
            return _mkdocs("build", "--strict", "--site-dir", str(SITE))
        case _:
            return _mkdocs("serve")


def _generate() -> int:
    for path in generated.write():
        print(f"wrote {path.relative_to(generated.ROOT)}")
    return 0


def _check() -> int:
    stale = generated.stale()
    for path in stale:
        name = path.relative_to(generated.ROOT)
        print(f"{name} is not as the code has it: run ./scripts/docs generate", file=sys.stderr)
    return 1 if stale else 0


def _mkdocs(*arguments: str) -> int:
    # What the theme's makers announce is in docs/architecture.md, "Dependencies".
    environment = {**current_environment(), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", *arguments]
    return subprocess.run(command, cwd=generated.ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
