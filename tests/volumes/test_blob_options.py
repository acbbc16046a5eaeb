"""mountOptions that were written for blobfuse."""

from __future__ import annotations

import pytest

from trainshed.volumes.blob_options import BlobOptions, RefusedOption, parse_options

#: What `az batchai` gives to the mounts that it makes (behaviour 3.6).
OF_AZ = (
    "--use-https=true -o big_writes -o max_read=131072 -o max_write=131072 -o attr_timeout=240 -o fsname=blobfuse "
    "-o kernel_cache -o entry_timeout=240 -o negative_timeout=120 -o allow_other"
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", BlobOptions()),
        (OF_AZ, BlobOptions(attr_timeout=240)),
        ("-o ro", BlobOptions(read_only=True)),
        ("--read-only", BlobOptions(read_only=True)),
        ("-o ro,umask=027 --use-https=false", BlobOptions(read_only=True, umask=0o27, https=False)),
        ("-oallow_other --tmp-path=/mnt/x --file-cache-timeout-in-seconds=30", BlobOptions(cache_seconds=30)),
    ],
)
def test_what_options_mean(text: str, meant: BlobOptions) -> None:
    assert parse_options(text) == meant


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("--config-file=/etc/shadow", "config-file"),
        ("-o allow_other,sync_read=1", "sync_read"),
        ("--container-name=other", "container-name"),
        ("-o umask=9", "umask"),
        ("/mnt", "/mnt"),
        ("'", "quotation"),
    ],
)
def test_what_is_refused_is_named(text: str, named: str) -> None:
    with pytest.raises(RefusedOption, match=named):
        parse_options(text)
