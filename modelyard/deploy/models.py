"""The bucket of the models: there, in the region, and with archives in it?"""

from __future__ import annotations

from botocore.exceptions import ClientError

from modelyard.deploy.calls import Calls
from modelyard.deploy.plan import Plan
from modelyard.deploy.problems import DeployError, code_of
from modelyard.say import say

SERVICE = "s3"

_MOVED = frozenset({"301", "PermanentRedirect"})
_LOOKED_AT = 100


def check(plan: Plan, calls: Calls) -> None:
    """Raises DeployError for a bucket that SageMaker could not use; what boto3 raises, too."""
    region = _region(plan, calls)
    if region != calls.region:
        raise DeployError(
            f"the bucket {plan.bucket} is in {region} and the endpoint would be in {calls.region}: "
            f"SageMaker reads models of its own region; give --region {region}, or another bucket",
            2,
        )
    try:
        listed = calls.ask(
            *(SERVICE, "list_objects_v2"),
            Bucket=plan.bucket,
            Prefix=plan.prefix,
            MaxKeys=_LOOKED_AT,
        )
    except ClientError as error:
        if code_of(error) != "AccessDenied":
            raise
        return  # the role reads it, not whoever deploys
    keys = [each["Key"] for each in listed.get("Contents", ())]
    if not any(key.endswith(".tar.gz") for key in keys):
        say(f"there is no .tar.gz below {plan.models} yet; `modelyard pack` makes one of a model")


def _region(plan: Plan, calls: Calls) -> str:
    try:
        found = calls.find(SERVICE, "head_bucket", Bucket=plan.bucket)
    except ClientError as error:
        headers = error.response["ResponseMetadata"]["HTTPHeaders"]
        if code_of(error) in _MOVED:
            return str(headers.get("x-amz-bucket-region", "another region"))
        if code_of(error) == "403":
            return str(headers.get("x-amz-bucket-region", calls.region))
        raise
    if found is None:
        raise DeployError(f"there is no bucket {plan.bucket}: create it, or mend --models", 2)
    region: str = found.get("BucketRegion", calls.region)
    return region
