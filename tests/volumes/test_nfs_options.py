"""mountOptions of file servers: who honours which, and what is refused by name."""

from __future__ import annotations

import pytest

from trainshed.volumes.nfs_options import UnknownOptions, UserSpaceOptions, for_kernel, for_user_space


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, UserSpaceOptions()),
        ("rw", UserSpaceOptions()),
        ("ro", UserSpaceOptions(read_only=True)),
        ("ro,rw", UserSpaceOptions()),
        ("-o ro,noexec -o noatime", UserSpaceOptions(read_only=True, no_exec=True)),
        ("rw,hard,rsize=1048576,vers=3,actimeo=30", UserSpaceOptions(believed=30)),
        ("noac", UserSpaceOptions(believed=0)),
    ],
)
def test_the_client_in_user_space(text: str | None, expected: UserSpaceOptions) -> None:
    assert for_user_space(text) == expected


@pytest.mark.parametrize(
    ("text", "named"), [("rw,soft", "option soft"), ("vers=4.2,sec=krb5", "options vers=4.2, sec=krb5")]
)
def test_what_it_cannot_do_is_named(text: str, named: str) -> None:
    with pytest.raises(UnknownOptions, match=f"the {named}, which cannot be honoured"):
        for_user_space(text)


def test_the_kernels_client_gets_what_nfs_5_has() -> None:
    assert for_kernel("rw,soft,vers=4.1,rsize=65536,lookupcache=none") == [
        "rw", "soft", "vers=4.1", "rsize=65536", "lookupcache=none",
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["port=111", "addr=10.0.0.1", "clientaddr=::", "suid=1", "x", "rsize="])
def test_addresses_and_the_unknown_are_refused(option: str) -> None:
    with pytest.raises(UnknownOptions, match=option):
        for_kernel(f"rw,{option}")
