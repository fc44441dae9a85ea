"""Makes a model.tar.gz of an example, as one uploads it to S3, and extracts it as SageMaker does.

``python -m examples.archives NAME FILE`` trains the example and writes its archive.
"""

from __future__ import annotations

import argparse
import importlib
import mimetypes
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent
EXAMPLES = tuple(sorted(path.parent.name for path in ROOT.glob("*/train.py")))


@dataclass(frozen=True)
class SampleRequest:
    """The ``request.*`` file of an example; its extension says what the content type is."""

    path: Path

    @classmethod
    def of(cls, example: str) -> SampleRequest:
        """The one that lies in the example's directory."""
        return cls(next((ROOT / example).glob("request.*")))

    @property
    def content_type(self) -> str:
        """What to send as Content-Type."""
        return mimetypes.guess_type(self.path)[0] or "application/octet-stream"


def pack(example: str, archive: Path) -> None:
    """Train an example and put what it wrote, without a directory around it, into an archive."""
    try:
        train = importlib.import_module(f"examples.{example}.train").train
    except ModuleNotFoundError as error:
        raise SystemExit(_missing(example, str(error.name))) from error
    with tempfile.TemporaryDirectory() as scratch:
        train(Path(scratch))
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "w:gz") as tar:
            for path in sorted(Path(scratch).iterdir()):
                tar.add(path, arcname=path.name)


def _missing(example: str, module: str) -> str:
    """What to do where a package that trains an example is not installed."""
    asked = ROOT / example / "requirements.txt"
    if not asked.exists():
        return f"{example} needs {module}: pip install {module}"
    return (
        f"{example} needs {module}, which is not installed here. Train it in an environment of its "
        "own (examples/README.md):\n"
        f"  python -m venv /tmp/{example}\n"
        f"  /tmp/{example}/bin/pip install -r examples/{example}/requirements.txt\n"
        f"  /tmp/{example}/bin/python -m examples.archives {example} model.tar.gz"
    )


def extract(archive: Path, models: Path, name: str) -> Path:
    """Extract where the platform would; the directory is the ``url`` of ``POST /models``.

    On SageMaker ``models`` is /opt/ml/models, and ``name`` a hash of the archive's place in S3.
    """
    model_dir = models / name / "model"
    model_dir.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(model_dir, filter="data")
    return model_dir


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.archives", description=__doc__)
    parser.add_argument("name", choices=EXAMPLES, help="which example")
    parser.add_argument("file", type=Path, help="where to write the archive")
    arguments = parser.parse_args()
    pack(arguments.name, arguments.file)
    print(f"wrote {arguments.file}, {arguments.file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
