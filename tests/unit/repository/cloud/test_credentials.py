# SPDX-License-Identifier: Apache-2.0
"""Triton's environment variables and its credential file."""

import json

import pytest

from pyinfer.errors import InvalidArgument
from pyinfer.repository.cloud.credentials import AzureCredential, GcsCredential, S3Credential, find_credential
from pyinfer.repository.cloud.location import parse_location

S3, GS, AS = parse_location("s3://bucket/a/b"), parse_location("gs://bucket/a"), parse_location("as://acc/cont/a")

AWS = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_SESSION_TOKEN": "token",
    "AWS_PROFILE": "prod",
}
AZURE = {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "key", "AZURE_STORAGE_CLIENT_ID": "client"}


def test_environment():
    assert find_credential(S3, AWS) == S3Credential("id", "secret", "eu-west-1", "token", "prod")
    assert find_credential(S3, {}) == S3Credential()
    assert find_credential(GS, {"GOOGLE_APPLICATION_CREDENTIALS": "/k.json"}) == GcsCredential("/k.json")
    assert find_credential(AS, AZURE) == AzureCredential("acc", "key", "", "client")
    managed = {**AZURE, "AZURE_STORAGE_AUTH_TYPE": "managed_identity"}
    assert find_credential(AS, managed).auth_type == "managed_identity"


def test_a_key_has_two_halves():
    assert find_credential(S3, AWS).has_key
    assert not find_credential(S3, {"AWS_ACCESS_KEY_ID": "id"}).has_key


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "credentials.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return {"TRITON_CLOUD_CREDENTIAL_PATH": str(path), **AWS, **AZURE}

    return write


def test_longest_prefix_wins_and_the_environment_does_not_count(file):
    environment = file(
        {
            "s3": {
                "": {"key_id": "any"},
                "s3://bucket": {"key_id": "bucket", "profile": "p"},
                "s3://bucket/a": {"key_id": "a", "secret_key": "s", "region": "r", "session_token": "t"},
                "s3://bucket/a/b/c": {"key_id": "deeper"},
            },
            "gs": {"gs://bucket": "/g.json"},
            "as": {"": {"account_str": "x", "account_key": "k", "auth_type": "key", "client_id": "c"}},
        }
    )
    assert find_credential(S3, environment) == S3Credential("a", "s", "r", "t")
    assert find_credential(parse_location("s3://bucket/z"), environment) == S3Credential("bucket", profile="p")
    assert find_credential(parse_location("s3://other"), environment) == S3Credential("any")
    assert find_credential(GS, environment) == GcsCredential("/g.json")
    assert find_credential(AS, environment) == AzureCredential("x", "k", "key", "c")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"s3": {"s3://other": {}}}, "Cannot match credential for path  s3://bucket/a/b"),
        ({}, "Cannot match credential for path  s3://bucket/a/b"),
        ({"s3": []}, "'s3' must be an object of URL prefixes"),
        ({"s3": {"": "text"}}, "entry '' of 's3' must be an object of strings"),
        ({"s3": {"": {"key_id": 7}}}, "entry '' of 's3' must be an object of strings"),
        ([], "must hold an object with 's3', 'gs' and 'as'"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_files_that_are_wrong(file, content, text):
    with pytest.raises(InvalidArgument) as caught:
        find_credential(S3, file(content))
    assert text in str(caught.value)


def test_other_faults(file, tmp_path):
    with pytest.raises(InvalidArgument, match="can not read '.*': No such file"):
        find_credential(S3, {"TRITON_CLOUD_CREDENTIAL_PATH": str(tmp_path / "absent")})
    with pytest.raises(InvalidArgument, match="entry '' of 'gs' must be the path of a credential file"):
        find_credential(GS, file({"gs": {"": {}}}))
    with pytest.raises(InvalidArgument, match="is 'kerberos': expected key, managed_identity or default"):
        find_credential(AS, {"AZURE_STORAGE_AUTH_TYPE": "kerberos"})
    with pytest.raises(InvalidArgument, match="is 'key', but there is no account key"):
        find_credential(AS, {"AZURE_STORAGE_AUTH_TYPE": "key"})


def test_secrets_are_not_shown():
    shown = repr(find_credential(S3, AWS)) + repr(find_credential(AS, AZURE))
    assert "secret" not in shown
    assert "token" not in shown
    assert "'key'" not in shown
