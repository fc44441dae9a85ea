"""What the demo says at its end: commands to go on with, each as it can be pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from examples.demo.models import CONTENT_TYPE, patients
from examples.demo.workplace import Workplace

AFTER = """
What to try next, from this directory:

  ./scripts/demo --keep
      the same, but the endpoint stays, with lines to ask it
  less examples/demo/client.py
      all that an application says to the endpoint
  .venv/bin/modelyard up --models {archives}
      the same models again, without a bucket; Ctrl-C stops it
  .venv/bin/modelyard up --help
      all settings, each with its environment variable
"""

KEPT = """\
{exports}

.venv/bin/modelyard invoke {endpoint} {target} \\
    --data {patient} \\
    --content-type {content_type}

.venv/bin/python -c '
import boto3
runtime = boto3.client("sagemaker-runtime")
answer = runtime.invoke_endpoint(EndpointName="{endpoint}",
    TargetModel="{target}", ContentType="{content_type}",
    Body="{patient}")
print(answer["Body"].read())
print(boto3.client("sagemaker").describe_endpoint(EndpointName="{endpoint}"))
for each in boto3.client("s3").list_objects_v2(Bucket="{endpoint}")["Contents"]:
    print(each["Key"], each["Size"])'

curl --silent {url}/status | .venv/bin/python -m json.tool

.venv/bin/modelyard down --data-dir {data_dir} --forget
"""


def after(place: Workplace) -> str:
    """For when the endpoint has stopped."""
    return AFTER.format(archives=shlex.quote(str(place.shown / place.archives.name)))


def kept(place: Workplace, endpoint: str, target: str, exports: Mapping[str, str]) -> str:
    """For when it stays: invoke with the command line and boto3, look, stop."""
    return KEPT.format(
        exports="\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports.items()),
        endpoint=endpoint,
        target=target,
        patient=patients(1).decode(),
        content_type=CONTENT_TYPE,
        url=exports["AWS_ENDPOINT_URL_SAGEMAKER"],
        data_dir=shlex.quote(str(place.shown_endpoint)),
    )
