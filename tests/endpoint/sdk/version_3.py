"""What a user of sagemaker 3 does: resources, from create to delete. Run by test_sdk."""

from __future__ import annotations

import json
import sys

import boto3
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, MultiModelConfig, ProductionVariant

ARCHIVE, BUCKET = sys.argv[1:]

s3 = boto3.client("s3")
s3.create_bucket(Bucket=BUCKET)
s3.upload_file(ARCHIVE, BUCKET, "models/iris.tar.gz")
container = ContainerDefinition(
    image="modelyard",
    mode="MultiModel",
    model_data_url=f"s3://{BUCKET}/models/",
    multi_model_config=MultiModelConfig(model_cache_setting="Enabled"),
)
Model.create(
    model_name="many",
    execution_role_arn="arn:aws:iam::000000000000:role/any",
    primary_container=container,
)
variant = ProductionVariant(
    variant_name="AllTraffic",
    model_name="many",
    initial_instance_count=1,
    instance_type="ml.m5.large",
    initial_variant_weight=1.0,
)
EndpointConfig.create(endpoint_config_name="many", production_variants=[variant])
endpoint = Endpoint.create(endpoint_name="sdk3", endpoint_config_name="many")
endpoint.wait_for_status("InService")
result = endpoint.invoke(
    body="5.1,3.5,1.4,0.2", content_type="text/csv", target_model="iris.tar.gz"
)
listed = [one.endpoint_name for one in Endpoint.get_all()]
endpoint.delete()
sys.stdout.write(json.dumps({"answer": json.loads(result.body.read()), "listed": listed}))
