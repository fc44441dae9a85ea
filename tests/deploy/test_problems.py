"""What cannot be deployed is told before anything is begun, with what to do."""

from __future__ import annotations

import pytest

from tests.deploy.conftest import IMAGE, Aws


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "run `aws configure`"),
        ({"AWS_ACCESS_KEY_ID": "only"} | {"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_REGION": ""}, "no region is set: give --region"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_REGION": "not a region"}, "region"),
    ],
    ids=["no-credentials", "half-credentials", "no-region", "no-profile", "no-such-region"],
)
def test_what_the_shell_lacks(aws: Aws, variables: dict[str, str], words: str) -> None:
    done = aws.deploy(**variables)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert aws.parts() == []


def test_a_region_where_nobody_answers(aws: Aws) -> None:
    done = aws.deploy(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "is the region right (--region), and is there a network?" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--role", "serves"), "must be a role's ARN: arn:aws:iam::123456789012:role/NAME"),
        (("--models", "models/"), "must be a prefix of a bucket"),
        (("--instance-type", "ml.g5.12xlarge"), "such with a single one, as ml.g5.xlarge"),
        (("--instance-type", "m5.large"), "must be an instance type, such as ml.m5.xlarge"),
        (("--max-instances", "3"), "go together"),
        (
            ("--instances", "4", "--max-instances", "3", "--invocations-per-minute", "9"),
            "--max-instances must be at least --instances",
        ),
        (("--environment", "A"), "must be NAME=VALUE"),
        (("--alarms", "topic"), "must be a topic's ARN"),
        (("--data", "x"), "--body and --data are for --invoke"),
        (("--invoke", "m.tar.gz", "--body", "/nonexistent/x"), "cannot be read"),
        (("--models", "s3://no-such-bucket-here/"), "there is no bucket no-such-bucket-here"),
        (("--image", IMAGE.replace(":one", ":two")), "there is no image"),
        (("--image", IMAGE.replace("us-east-1", "eu-west-1")), "SageMaker pulls from ECR of its"),
        (("--build", "cpu"), "--build makes an image of this machine"),
    ],
)
def test_what_does_not_fit(aws: Aws, options: tuple[str, ...], words: str) -> None:
    done = aws.deploy(*options)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert aws.parts() == []


def test_a_bucket_of_another_region(aws: Aws) -> None:
    s3 = aws.client("s3", region_name="eu-west-1")
    where = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket="far-away-models", CreateBucketConfiguration=where)
    done = aws.deploy("--models", "s3://far-away-models/")
    assert done.returncode == 2, done.stderr
    assert "--region eu-west-1" in done.stderr


def test_an_endpoint_with_the_longest_name(aws: Aws) -> None:
    name = "a" * 63
    assert aws.deploy(name=name).returncode == 0
    assert aws.endpoints() == [name]
    assert aws.undeploy(name=name).returncode == 0
    assert aws.endpoints() == [] and aws.parts() == []


def test_a_name_that_begins_as_another_takes_nothing_from_it(aws: Aws) -> None:
    assert aws.deploy(name="many").returncode == 0
    assert aws.deploy(name="many-more").returncode == 0
    assert aws.undeploy(name="many").returncode == 0
    assert aws.endpoints() == ["many-more"]
    assert len(aws.parts()) == 2
