"""The administrator's file of directories that jobs may mount."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainshed.resources.host_directories import AllowedDirectory, InvalidHostDirectories, read_host_directories
from trainshed.service_home import load_host_directories


def test_what_the_file_says() -> None:
    found = read_host_directories('{"/data/": {}, "/scratch": {"readOnly": false, "owner": "alice"}}')
    assert found == (AllowedDirectory("/data"), AllowedDirectory("/scratch", False, "alice"))
    assert [AllowedDirectory.from_json(entry.to_json()) for entry in found] == list(found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ('["/data"]', "no JSON object"),
        ('{"data": {}}', "absolute"),
        ('{"/": {}}', "absolute"),
        ('{"/data/../etc": {}}', "absolute"),
        ('{"/data": true}', "no object"),
        ('{"/data": {"writable": true}}', "'writable'"),
        ('{"/data": {"readOnly": "no"}}', "readOnly of '/data'"),
        ('{"/data": {"owner": 7}}', "owner of '/data'"),
        ('{"/data": {"owner": "root"}}', "Name another user"),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str) -> None:
    with pytest.raises(InvalidHostDirectories, match=told):
        read_host_directories(text)


def test_the_service_s_own_files_are_nobody_s_to_mount(tmp_path: Path) -> None:
    home = tmp_path / "srv/home"
    (home / "storage").mkdir(parents=True)
    assert load_host_directories(home) == ()
    (tmp_path / "link").symlink_to(home)
    for path in (tmp_path / "srv", home, home / "storage", tmp_path / "link"):
        (home / "host-directories.json").write_text(json.dumps({str(path): {}}))
        with pytest.raises(InvalidHostDirectories, match=r"host-directories\.json cannot be used: .*Mend or remove"):
            load_host_directories(home)
    (home / "host-directories.json").write_text(json.dumps({str(tmp_path / "data"): {}}))
    assert load_host_directories(home) == (AllowedDirectory(str(tmp_path / "data")),)
