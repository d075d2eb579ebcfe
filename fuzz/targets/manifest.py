"""What a registry answers: image indexes, manifests, configs."""

from __future__ import annotations

import json

from sixsmith.errors import FormatError
from sixsmith.oci.spec import parse_config, parse_index, parse_manifest

WORDS = (
    b'"layers":[',
    b'"manifests":[',
    b'"digest":"sha256:',
    b'"size":',
    b'"rootfs":{"diff_ids":[',
    b"null",
    b"-1",
    b"1e99",
)


def seeds() -> list[bytes]:
    digest = "sha256:" + "0123456789abcdef" * 4
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 5}
    platform = {"architecture": "arm64", "os": "linux", "variant": "v8"}
    documents = [
        {"schemaVersion": 2, "config": layer, "layers": [layer], "annotations": {"a": "b"}},
        {"schemaVersion": 2, "manifests": [{**layer, "platform": platform}]},
        {**platform, "config": {"Env": ["A=b"]}, "rootfs": {"type": "layers", "diff_ids": [digest]}, "history": [{}]},
    ]
    return [json.dumps(document).encode() for document in documents]


def TestOneInput(data: bytes) -> None:
    for parse in (parse_manifest, parse_index, parse_config):
        try:
            document = parse(data)
        except FormatError:
            continue
        assert document.raw == data
