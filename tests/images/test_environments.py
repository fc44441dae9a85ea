"""An environment that was built into the image is used where nothing can be built."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from tests.images.build import build
from tests.images.conftest import Runs
from tests.podman import ROOT, Podman

TAG = "localhost/modelyard:test-mxnet"
TRAIN = (
    "exec /opt/modelyard/environments/*/bin/python -m examples.archives circle_mxnet /out/c.tar.gz"
)
# Whoever asks the container without a network is in it.
ASK = """
import json, time, urllib.request

def send(path, data=None, **headers):
    request = urllib.request.Request("http://127.0.0.1:8080" + path, data, headers)
    return urllib.request.urlopen(request, timeout=100).read().decode()

for _ in range(600):
    try:
        send("/ping")
        break
    except OSError:
        time.sleep(0.1)
load = {"model_name": "circle", "url": "/opt/ml/models/circle"}
send("/models", json.dumps(load).encode())
body = open("/example/request.json", "rb").read()
print(send("/models/circle/invoke", body, **{"Content-Type": "application/json"}))
"""


def test_mxnet_needs_no_network_and_nothing_to_write_to(
    engine: Podman, runs: Runs, tmp_path: Path
) -> None:
    build(engine, TAG, "--environments", "mxnet")
    example = ROOT / "examples" / "circle_mxnet"
    mounts = (
        "--volume",
        f"{ROOT / 'examples'}:/source/examples:ro",
        "--volume",
        f"{tmp_path}:/out",
    )
    shell = ("--network", "none", "--workdir", "/source", "--entrypoint", "sh", TAG, "-c", TRAIN)
    engine.run("run", "--rm", *mounts, *shell, within_seconds=300)
    with tarfile.open(tmp_path / "c.tar.gz") as archive:
        archive.extractall(tmp_path / "circle", filter="data")
    container = runs(
        TAG,
        *("--user", "1000:1000", "--cap-drop", "all", "--read-only", "--tmpfs", "/tmp"),
        *("--volume", f"{tmp_path / 'circle'}:/opt/ml/models/circle:ro"),
        *("--volume", f"{example}:/example:ro"),
        network=False,
    )
    answer = json.loads(container.python(ASK))
    expected = json.loads((example / "answer.json").read_text())
    assert [[round(value) for value in row] for row in answer["predictions"]] == (
        expected["predictions"]
    )
    assert container.stop() == 0
