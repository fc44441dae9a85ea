"""Starts multi-model-server as AWS's inference toolkit does: ``python start.py CONFIG``.

The toolkit would write its settings to ``/etc``; the benchmark names another file.
"""

import sys

from sagemaker_inference import model_server  # type: ignore[import-not-found,unused-ignore]

model_server.MMS_CONFIG_FILE = sys.argv[1]  # type: ignore[attr-defined,unused-ignore]
model_server.start_model_server()
