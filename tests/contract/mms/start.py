"""Starts multi-model-server as AWS's own containers do, for the contract suite to run against.

Run by the interpreter of an environment that has multi-model-server and sagemaker-inference:
``python start.py PORT SCRATCH_DIR``. It imports nothing of Modelyard.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def start(port: str, scratch: Path) -> None:
    """Serve until SIGTERM. All that the server writes goes into ``scratch``."""
    (scratch / "models").mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BIND_TO_PORT": port,
        "SAGEMAKER_HANDLER": f"{Path(__file__).with_name('handler.py')}:handle",
        "SAGEMAKER_BASE_DIR": str(scratch),
        "LOG_LOCATION": str(scratch),
        "METRICS_LOCATION": str(scratch),
        # Its pid file and its workers' sockets lie in the temporary folders of Python and Java.
        "TMPDIR": str(scratch),
        "SAGEMAKER_MODEL_SERVER_VMARGS": f"-XX:-UseContainerSupport -Djava.io.tmpdir={scratch}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    from sagemaker_inference import model_server

    model_server.MMS_CONFIG_FILE = str(scratch / "mms.properties")  # type: ignore[attr-defined]
    model_server.start_model_server()


if __name__ == "__main__":
    start(sys.argv[1], Path(sys.argv[2]))
