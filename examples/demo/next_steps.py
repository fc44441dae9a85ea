"""What the demo says at its end: commands to go on with, each as it can be pasted into a shell."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from examples.archives import SampleRequest
from examples.demo.tour import MODELS
from examples.demo.workplace import Workplace

AFTER = """
What to try next, from this directory:

  ./scripts/demo --keep
      the same, but the server stays, with curl lines to ask it
  less examples/README.md
      what the three models are made of, and how to make one of your own
  tar -tzf {archive}
      what is in an archive
  .venv/bin/python -m examples.archives digits_script .demo/new.tar.gz
      train and pack one again, after a change to examples/digits_script
  .venv/bin/serve --port 8080 --model-roots {models} \\
      --model-dir {model_dir}
      one model by itself, at POST /invocations; Ctrl-C stops it
  .venv/bin/serve --help
      all settings, each with its environment variable
"""


def after(place: Workplace) -> str:
    """For when the server has stopped."""
    archive = place.shown / place.archive("digits_script").relative_to(place.directory)
    return AFTER.format(
        archive=shlex.quote(str(archive)),
        models=shlex.quote(str(place.models)),
        model_dir=shlex.quote(str(place.models / MODELS[0] / "model")),
    )


def curl_lines(port: int, place: Workplace) -> str:
    """For when the server stays: list, describe, invoke, unload, load again."""
    base = f"http://127.0.0.1:{port}/models"
    name = MODELS[0]
    request = SampleRequest.of(name)
    body = json.dumps({"model_name": name, "url": str(place.models / name / "model")})
    lines = (
        f"curl {base}",
        f"curl {base}/{name}",
        f"curl {base}/{name}/invoke -H 'Content-Type: {request.content_type}' \\\n"
        f"    --data-binary @{_from_here(request.path)}",
        f"curl -X DELETE {base}/{name}",
        f"curl {base} -H 'Content-Type: application/json' \\\n    -d {shlex.quote(body)}",
    )
    return "\n".join(f"  {line}" for line in lines)


def _from_here(path: Path) -> str:
    """Relative to the current directory, where one can paste it."""
    return shlex.quote(os.path.relpath(path))
