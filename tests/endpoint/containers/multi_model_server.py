"""AWS multi-model-server as a local instance: ``PYTHON multi_model_server.py HANDLER DIRECTORY``.

Run by the Python of an environment that has it, with ``HANDLER`` (``file.py:function``) for all
models; ``DIRECTORY`` is for the files of each start. Its settings are those of AWS's toolkit in
multi-model mode. The toolkit itself looks for the server among all processes of its machine, so
that with it there may be only one; here this process becomes the server. It uses little heap.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGES = Path(sysconfig.get_path("purelib"))

# In a container it would take a fourth of the memory.
LITTLE = ("-Xms16m", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def main() -> None:
    handler, directory = sys.argv[1:]
    scratch = Path(tempfile.mkdtemp(dir=directory))
    settings = scratch / "mms.properties"
    address = f"http://127.0.0.1:{os.environ['SAGEMAKER_BIND_TO_PORT']}"
    settings.write_text(
        f"inference_address={address}\n"
        f"management_address={address}\n"
        f"default_service_handler={handler}\n"
        "default_workers_per_model=1\n"
        "decode_input_request=false\n"
        "async_logging=true\n"
    )
    os.environ |= {"LOG_LOCATION": str(scratch), "METRICS_LOCATION": str(scratch)}
    os.execvp("java", command(scratch, settings))


def command(scratch: Path, settings: Path) -> list[str]:
    log_settings = PACKAGES / "sagemaker_inference" / "etc" / "log4j2.xml"
    return [
        *("java", *LITTLE),
        f"-Dmodel_server_home={PACKAGES}",
        f"-Dlog4j.configurationFile=file://{log_settings}",
        f"-Djava.io.tmpdir={scratch}",
        *("-cp", f"{PACKAGES}/mms/frontend/*", "com.amazonaws.ml.mms.ModelServer"),
        *("--python", sys.executable, "-f", str(settings), "-s", "/"),
    ]


if __name__ == "__main__":
    main()
