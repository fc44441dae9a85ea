"""The pages that are made: a template each, whose ``{{ name }}`` lines become tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from documentation import commands, errors, metrics, model_file, routes, settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TEMPLATES = Path(__file__).parent / "templates"

PARTS: dict[str, Callable[[], str]] = {
    "settings of the container": settings.of_container,
    "settings of the endpoint": settings.of_endpoint,
    "keys of a model's file": model_file.keys,
    "routes of the container": routes.of_container,
    "routes of the endpoint": routes.of_endpoint,
    "metrics of the container": metrics.of_container,
    "metrics of CloudWatch": metrics.of_cloudwatch,
    "metrics of the endpoint": metrics.of_endpoint,
    "errors of the container": errors.of_container,
    "errors of the endpoint": errors.of_endpoint,
    "commands": commands.all_commands,
}


def pages() -> dict[Path, str]:
    """Every page that is made, with its text."""
    return {
        DOCS / "reference" / template.name: _page(template)
        for template in sorted(TEMPLATES.glob("*.md"))
    }


def stale() -> list[Path]:
    """Those that are not as the code and the templates have them."""
    return [path for path, text in pages().items() if _read(path) != text]


def write() -> list[Path]:
    """Make all that are stale; returns them."""
    made = pages()
    changed = [path for path, text in made.items() if _read(path) != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[path])
    return changed


def _page(template: Path) -> str:
    source = template.relative_to(ROOT)
    mark = f"<!-- Made by `./scripts/docs generate` from the code and {source}. Edit those. -->"
    text = re.sub(
        r"^\{\{ (.+) \}\}$", lambda part: PARTS[part[1]](), template.read_text(), flags=re.M
    )
    return f"{mark}\n\n{text}"


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
