"""What a user of sagemaker 2 does: MultiDataModel, from deploy to delete. Run by test_sdk."""

from __future__ import annotations

import json
import sys

import boto3
import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer

ARCHIVE, BUCKET = sys.argv[1:]
NO_TELEMETRY = {"SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}

boto3.client("s3").create_bucket(Bucket=BUCKET)
session = sagemaker.Session(
    default_bucket=BUCKET, sagemaker_config={"SchemaVersion": "1.0", **NO_TELEMETRY}
)
model = MultiDataModel(
    name="many",
    model_data_prefix=f"s3://{BUCKET}/models/",
    image_uri="modelyard",
    role="arn:aws:iam::000000000000:role/any",
    sagemaker_session=session,
)
model.deploy(1, "ml.m5.large", endpoint_name="sdk2")
model.add_model(ARCHIVE, "iris.tar.gz")
predictor = Predictor("sdk2", session, serializer=CSVSerializer(), deserializer=JSONDeserializer())
answer = predictor.predict([5.1, 3.5, 1.4, 0.2], target_model="iris.tar.gz")
listed = list(model.list_models())
predictor.delete_endpoint()
sys.stdout.write(json.dumps({"answer": answer, "listed": listed}))
