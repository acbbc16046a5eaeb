"""Names of images, read as docker reads them."""

from __future__ import annotations

from typing import Any

import pytest

from trainshed.runner.containers.errors import ContainerError
from trainshed.runner.containers.wanted import Wanted, wanted

DIGEST = "sha256:" + 64 * "a"


def of(image: str, password: str = "", **registry: Any) -> Wanted:
    return wanted({"imageSourceRegistry": {"image": image, **registry}}, password)


@pytest.mark.parametrize(
    ("image", "server", "reference"),
    [
        ("ubuntu", "", "docker.io/library/ubuntu:latest"),
        ("tensorflow/tensorflow:1.1.0-gpu", "", "docker.io/tensorflow/tensorflow:1.1.0-gpu"),
        (f"ubuntu@{DIGEST}", "", f"docker.io/library/ubuntu@{DIGEST}"),
        (f"ubuntu:22.04@{DIGEST}", "", f"docker.io/library/ubuntu@{DIGEST}"),
        ("docker://ubuntu:22.04", "", "docker.io/library/ubuntu:22.04"),
        ("index.docker.io/library/ubuntu", "", "docker.io/library/ubuntu:latest"),
        ("myregistry.azurecr.io/train:3", "", "myregistry.azurecr.io/train:3"),
        ("myregistry.azurecr.io/train:3", "https://myregistry.azurecr.io", "myregistry.azurecr.io/train:3"),
        ("train:3", "myregistry.azurecr.io", "myregistry.azurecr.io/train:3"),
        ("train:3", "https://index.docker.io/v1/", "docker.io/library/train:3"),
        ("nvidia/cuda", "nvcr.io", "nvcr.io/nvidia/cuda:latest"),
        ("cuda", "nvcr.io/nvidia", "nvcr.io/nvidia/cuda:latest"),
        ("localhost:5000/a/b", "", "localhost:5000/a/b:latest"),
        ("localhost/a", "", "localhost/a:latest"),
        ("[::1]:5000/a", "", "[::1]:5000/a:latest"),
    ],
)
def test_full_names(image: str, server: str, reference: str) -> None:
    found = of(image, serverUrl=server)
    assert found.reference == reference
    assert found.known_as[0] == reference
    assert found.name == image


def test_names_without_a_registry_are_also_those_of_local_images() -> None:
    assert of("mine:2").known_as == ("docker.io/library/mine:2", "localhost/mine:2")
    assert of("mine:2", serverUrl="registry.example.com").known_as == ("registry.example.com/mine:2",)
    assert of("quay.io/mine").known_as == ("quay.io/mine:latest",)


@pytest.mark.parametrize(
    ("image", "server", "plain"),
    [
        ("localhost:5000/a", "", True),
        ("127.0.0.1:5000/a", "", True),
        ("a", "http://registry.example.com", True),
        ("a", "https://registry.example.com", False),
        ("127.0.0.1.example.com/a", "", False),
        ("a", "", False),
    ],
)
def test_only_loopback_and_http_go_without_tls(image: str, server: str, plain: bool) -> None:
    assert of(image, serverUrl=server).plain_http is plain


def test_credentials_belong_to_the_registry() -> None:
    credentials = {"username": "$oauthtoken"}
    found = of("nvidia/cuda", "key", serverUrl="https://nvcr.io", credentials=credentials)
    assert (found.server, found.user, found.password) == ("nvcr.io", "$oauthtoken", "key")
    assert "key" not in repr(found).replace("known", "")


@pytest.mark.parametrize(
    ("image", "folder", "tag"),
    [
        ("oci:/images/a:1", "/images/a", "1"),
        ("oci:/images/a", "/images/a", ""),
        ("oci:/images:old/a", "/images:old/a", ""),
        ("oci:$ROOT/a/:1", "/root/a", "1"),
    ],
)
def test_directories(image: str, folder: str, tag: str) -> None:
    settings = {"imageSourceRegistry": {"image": image}}
    found = wanted(settings, "", lambda text: text.replace("$ROOT", "/root"))
    assert (found.folder, found.tag, found.reference) == (folder, tag, "")


@pytest.mark.parametrize(
    "image", ["", "Ubuntu", "a b", "a:b:c", "a@sha256:12", "oci:relative:1", "oci:", "-rm", "a/../b"]
)
def test_what_is_no_image(image: str) -> None:
    with pytest.raises(ContainerError) as told:
        of(image)
    assert told.value.way_out


@pytest.mark.parametrize("server", ["ftp://x", "a b", "https://", "x:port", "--root"])
def test_what_is_no_registry(server: str) -> None:
    with pytest.raises(ContainerError, match="serverUrl"):
        of("a", serverUrl=server)
