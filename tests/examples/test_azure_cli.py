"""The start script of ``az``: what it writes before the command line is started. The end-to-end tests run it."""

from __future__ import annotations

import configparser
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

START = Path(__file__).resolve().parents[2] / "examples" / "azure-cli" / "az.py"


@pytest.fixture(scope="module")
def az() -> ModuleType:
    spec = importlib.util.spec_from_file_location("az_start_script", START)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def nobodys_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRAINSHED_URL", "TRAINSHED_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRAINSHED_HOME", str(tmp_path / "home"))


def settings(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(path)
    return parser


def test_the_cloud_the_account_and_the_token_are_written(az: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "azure"
    az.sign_in(folder, "http://127.0.0.1:8123", "t0ken", "sub")
    cloud = settings(folder / "clouds.config")["Trainshed"]
    assert cloud["endpoint_resource_manager"] == "http://127.0.0.1:8123/"
    assert settings(folder / "config")["cloud"]["name"] == "Trainshed"
    (account,) = json.loads((folder / "azureProfile.json").read_text())["subscriptions"]
    assert (account["id"], account["isDefault"], account["environmentName"]) == ("sub", True, "Trainshed")
    (token,) = json.loads((folder / "accessTokens.json").read_text())
    # The token is found by the resource that the cloud names, and is for that service only.
    assert (token["accessToken"], token["resource"]) == ("t0ken", cloud["endpoint_active_directory_resource_id"])
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_settings_of_the_user_stay(az: ModuleType, tmp_path: Path) -> None:
    az.sign_in(tmp_path, "http://127.0.0.1:1", "a", "sub")
    with (tmp_path / "config").open("a") as file:
        file.write("[batchai]\nstorage_key = a2V5JXw=\n")
    az.sign_in(tmp_path, "http://127.0.0.1:2", "b", "sub")
    assert settings(tmp_path / "config").get("batchai", "storage_key", raw=True) == "a2V5JXw="
    assert settings(tmp_path / "clouds.config")["Trainshed"]["endpoint_resource_manager"] == "http://127.0.0.1:2/"


def test_the_service_is_the_one_of_the_home(az: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "service.json").write_text('{"url": "http://127.0.0.1:1", "token": "its", "pid": 1}')
    assert az.service() == ("http://127.0.0.1:1", "its")
    monkeypatch.setenv("TRAINSHED_TOKEN", "mine")
    assert az.service() == ("http://127.0.0.1:1", "mine")
    monkeypatch.setenv("TRAINSHED_URL", "https://shed.example/")
    assert az.service() == ("https://shed.example", "mine")


def test_without_a_service_it_says_what_to_do(az: ModuleType) -> None:
    with pytest.raises(SystemExit) as ended:
        az.service()
    assert "trainshed serve" in str(ended.value)
