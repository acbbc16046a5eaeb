"""Finding the service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainshed.client import Connection, NoServiceError, find_service
from trainshed.client.connection import home_directory


def _write(home: Path, text: str) -> dict[str, str]:
    (home / "service.json").write_text(text)
    return {"TRAINSHED_HOME": str(home)}


def test_the_environment_wins_over_the_home(tmp_path: Path) -> None:
    told = json.dumps({"url": "http://127.0.0.1:1", "token": "of-file", "pid": 7})
    environ = _write(tmp_path, told) | {"TRAINSHED_URL": "http://127.0.0.1:2/", "TRAINSHED_TOKEN": "of-env"}
    assert find_service(environ) == Connection("http://127.0.0.1:2", "of-env")


def test_the_home_names_a_local_service(tmp_path: Path) -> None:
    environ = _write(tmp_path, json.dumps({"url": "http://127.0.0.1:1", "token": "t", "pid": 7}))
    assert find_service(environ) == Connection("http://127.0.0.1:1", "t", 7)


def test_without_a_service_the_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NoServiceError, match=r"service\.json does not exist") as caught:
        find_service({"TRAINSHED_HOME": str(tmp_path)})
    assert caught.value.way_out == "trainshed serve"


@pytest.mark.parametrize("text", ["", "[]", '{"url": "http://x"}', "not json"])
def test_a_broken_service_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(NoServiceError, match="is not what the service writes"):
        find_service(_write(tmp_path, text))


def test_a_url_without_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoServiceError, match="is not a URL"):
        find_service({"TRAINSHED_URL": "127.0.0.1:8080"})


def test_the_token_is_not_in_the_representation() -> None:
    assert "secret" not in repr(Connection("http://127.0.0.1:1", "secret"))


def test_the_default_home_is_in_the_users_home() -> None:
    assert home_directory({}) == Path.home() / ".trainshed"
