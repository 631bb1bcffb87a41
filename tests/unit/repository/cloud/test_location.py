# SPDX-License-Identifier: Apache-2.0
"""URLs of repositories on object stores: Triton's forms, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.errors import InvalidArgument
from pyinfer.repository.cloud.location import is_cloud_url, parse_location

# URL, scheme, bucket, prefix, endpoint, account
FORMS = [
    ("s3://bucket", "s3", "bucket", "", "", ""),
    ("s3://bucket/", "s3", "bucket", "", "", ""),
    ("s3://bucket/a/b", "s3", "bucket", "a/b", "", ""),
    ("s3://bucket//a///b//", "s3", "bucket", "a/b", "", ""),
    ("s3://my.bucket-1/a", "s3", "my.bucket-1", "a", "", ""),
    ("s3://localhost:9000/bucket/a", "s3", "bucket", "a", "http://localhost:9000", ""),
    ("s3://10.0.0.1:9000/bucket", "s3", "bucket", "", "http://10.0.0.1:9000", ""),
    ("s3://http://minio:9000/bucket/a", "s3", "bucket", "a", "http://minio:9000", ""),
    ("s3://https://minio.example.com:443/bucket/a/b", "s3", "bucket", "a/b", "https://minio.example.com:443", ""),
    ("s3://https://minio.example.com/bucket/a", "s3", "bucket", "a", "https://minio.example.com", ""),
    ("s3://[::1]:9000/bucket/a", "s3", "bucket", "a", "http://[::1]:9000", ""),
    ("gs://bucket/a", "gs", "bucket", "a", "", ""),
    ("as://account/container", "as", "container", "", "", "account"),
    ("as://account/container/a/b/", "as", "container", "a/b", "", "account"),
    ("as://account.blob.core.windows.net/container/a", "as", "container", "a", "", "account"),
]


@pytest.mark.parametrize(("url", "scheme", "bucket", "prefix", "endpoint", "account"), FORMS)
def test_forms(url, scheme, bucket, prefix, endpoint, account):
    place = parse_location(url)
    assert (place.url, place.scheme, place.bucket) == (url, scheme, bucket)
    assert (place.prefix, place.endpoint, place.account) == (prefix, endpoint, account)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://", "No bucket name found in path: s3://"),
        ("s3:///", "No bucket name found in path: s3:///"),
        ("gs://-x/a", "No bucket name found in path: gs://-x/a"),
        ("s3://host:9000/", "No bucket name found in path: s3://host:9000/"),
        ("s3://buck et/a", "No bucket name found in path: s3://buck et/a"),
        ("as://account", "Invalid azure storage path: as://account: expected as://<account>/<container>/<path>"),
        ("as://a.b/c", "Invalid azure storage path: as://a.b/c: expected as://<account>/<container>/<path>"),
        ("as://account/container?sig=secret", "it must not have a query or a fragment"),
        ("s3://bucket/../a", "'.' and '..' are no names in an object store"),
        ("s3://bucket/a/./b", "'.' and '..' are no names in an object store"),
        ("ftp://bucket/a", "invalid model repository URL 'ftp://bucket/a': expected s3://, gs:// or as://"),
        ("s3://bucket/a\nb", "invalid model repository URL 's3://bucket/a\\nb': expected s3://, gs:// or as://"),
    ],
)
def test_what_is_no_location(url, text):
    with pytest.raises(InvalidArgument) as caught:
        parse_location(url)
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["/models", "models", "s3:/bucket", "s3", "", "S3://bucket", "./s3://bucket"])
def test_paths_are_no_urls(text):
    assert not is_cloud_url(text)


@given(st.sampled_from(["s3://", "gs://", "as://"]), st.text(max_size=30) | st.from_regex(r"[a-z:/.0-9\[\]-]{0,30}"))
def test_any_url_is_parsed_or_refused(scheme, rest):
    try:
        place = parse_location(scheme + rest)
    except InvalidArgument:
        return
    assert not {"", ".", ".."} & set(place.prefix.split("/")) or not place.prefix
    assert "/" not in place.bucket
