"""Installing a client: what is kept when it works, and when it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import install
from tests.clients.install import Client

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of this test's own."""
    path = tmp_path / "store"
    monkeypatch.setattr(install, "STORE", path)
    return path


def client(tmp_path: Path, listed: str, check: str = "import sys") -> Client:
    versions = tmp_path / "versions.txt"
    versions.write_text(listed)
    return Client("some", (versions,), check)


def test_what_is_installed_is_not_installed_again(store: Path, tmp_path: Path) -> None:
    empty = client(tmp_path, "# nothing\n")
    assert empty.why_not() == "the client some is not here: it was not installed; run `make clients`"
    assert install.install(empty) == "some: installed"
    assert install.install(empty) == "some: here"
    assert empty.why_not() is None
    assert Path(empty.interpreter).exists()


def test_other_versions_are_installed_anew(store: Path, tmp_path: Path) -> None:
    install.install(client(tmp_path, "# nothing\n"))
    other = client(tmp_path, "# nothing else\n")
    assert other.why_not() is not None
    assert install.install(other) == "some: installed"


def test_the_reason_is_kept_for_the_tests_that_are_skipped(store: Path, tmp_path: Path) -> None:
    absent = client(tmp_path, f"{(tmp_path / 'absent-1.0-py3-none-any.whl').as_uri()}\n")
    line = install.install(absent)
    assert line.startswith("some: not to be had, its tests will be skipped: ")
    why = absent.why_not()
    assert why is not None and "absent-1.0" in why
    assert not absent.stamp.exists()
    # The next time it is tried again.
    assert install.install(client(tmp_path, "# nothing\n")) == "some: installed"


def test_a_client_that_cannot_start_is_not_here(store: Path, tmp_path: Path) -> None:
    broken = client(tmp_path, "# nothing\n", check="import no_such_module_of_ours")
    assert "no_such_module_of_ours" in install.install(broken)
    assert broken.why_not() is not None
