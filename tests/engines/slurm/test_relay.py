"""What nodes call where they share no file system with the service: a real listener, and calls as nodes make them."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trainshed.engines.slurm.node import places
from trainshed.engines.slurm.node.line import Away, Gone, Line, Relay, Wrong
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.records import AttemptRecord, Records, TicketRecord
from trainshed.engines.slurm.relay import server
from trainshed.runner.outcome import read as read_outcome

pytestmark = pytest.mark.slow

SUCCEEDED = {"result": "succeeded", "exit_code": 0, "reason": None, "ended_at": 1, "container": None}


class Service:
    """The service's side: a ticket, and attempts of its runs."""

    def __init__(self, folder: Path, lease: float = 60.0) -> None:
        self.root = Places(folder)
        self.root.make()
        self.records = Records(self.root)
        self.relay = server.Relay(self.root, self.records, lease)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.root.mount_root("cluster").mkdir(parents=True)
        self.ticket = TicketRecord("ticket", "job", "cluster", [], token="t0ken")
        self.root.ticket("ticket").folder.mkdir(parents=True)
        self.records.keep(self.ticket)

    def order(self, run: int, *, former: str | None = None, nodes: int = 1) -> None:
        attempt = f"attempt-{run}"
        self.root.attempt(attempt).folder.mkdir(parents=True)
        self.records.keep(AttemptRecord(attempt, "ticket", run, nodes))
        place = self.root.ticket("ticket")
        places.write(place.private(run), {"secrets": {"KEY": "k3y"}})
        told = {"attempt_id": former, "nodes": nodes} if former else None
        places.write(place.order(run), {"spec": {"attempt_id": attempt}, "former": told})

    def line(self, **changed: Any) -> Line:
        known = Relay("127.0.0.1", self.port, self.relay.fingerprint, "ticket", "t0ken")
        return Line(replace(known, **changed), 10.0)

    def file(self, path: str) -> Path:
        return self.root.mount_root("cluster") / path


def calling(service: Service, calls: Callable[[], None]) -> None:
    """Run what nodes do, in a thread, while the service listens."""

    async def whole() -> None:
        await service.relay.start("127.0.0.1", service.port)
        try:
            await asyncio.to_thread(calls)
        finally:
            await service.relay.close()

    asyncio.run(whole())


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "engine")


def piece(path: str, data: bytes, offset: int = 0, **more: Any) -> tuple[dict[str, str | int], bytes]:
    return {"run": 0, "path": path, "offset": offset, "mode": 0o755, "last": 0, **more}, data


def test_only_the_job_s_own_token_opens_and_only_the_service_s_certificate_is_believed(service: Service) -> None:
    def calls() -> None:
        service.order(0)
        for wrong in ({"token": "other"}, {"ticket": "other"}, {"token": ""}):
            with pytest.raises(Gone):
                service.line(**wrong).tell("begin", {"job": "1", "run": 0})
        with pytest.raises(Away, match="certificate is not the service's"):
            service.line(fingerprint="0" * 64).tell("begin", {"job": "1", "run": 0})
        assert service.line().tell("begin", {"job": "1", "run": 0})[1]["secret"] == {"secrets": {"KEY": "k3y"}}

    calling(service, calls)


def test_one_job_of_slurm_s_has_the_ticket_and_asks_as_often_as_it_likes(service: Service) -> None:
    def calls() -> None:
        line = service.line()
        assert line.tell("begin", {"job": "1", "run": 0}) == (
            202,
            {"wait": "the service has not said yet what it is to do"},
        )
        service.order(0)
        first = line.tell("begin", {"job": "1", "run": 0})
        assert line.tell("begin", {"job": "1", "run": 0}) == first
        with pytest.raises(Gone, match="job 1 has this ticket"):
            line.tell("begin", {"job": "2", "run": 0})
        line.tell("hosts", {"run": 0, "hosts": {"hosts": []}})
        assert not service.root.ticket("ticket").private(0).exists()

    calling(service, calls)


def test_a_later_run_waits_for_the_end_of_each_node_and_turns_the_former_away(service: Service) -> None:
    def calls() -> None:
        line = service.line()
        service.order(0, nodes=2)
        line.tell("begin", {"job": "1", "run": 0})
        service.order(1, former="attempt-0", nodes=2)
        for index, left in ((0, "2 nodes"), (1, "1 nodes")):
            status, answer = line.tell("begin", {"job": "1", "run": 1})
            assert (status, answer["wait"].startswith(left)) == (202, True)
            with pytest.raises(Gone, match="later run"):
                line.tell("beat", {"run": 0, "index": index, "told": 0, "heard": 0, "wait": 0})
            with pytest.raises(Gone, match="later run"):
                line.send(*piece("out", b"late"))
            line.tell("outcome", {"run": 0, "index": index, "outcome": None, "signalled": True})
        assert line.tell("begin", {"job": "1", "run": 1})[0] == 200
        with pytest.raises(Gone):
            line.tell("begin", {"job": "1", "run": 0})

    calling(service, calls)


def test_a_later_run_waits_no_longer_than_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainshed.engines.slurm.relay.filing.LEASE_MARGIN", 0.2)
    service = Service(tmp_path, lease=0.2)

    def calls() -> None:
        service.order(0)
        service.order(1, former="attempt-0")
        begun = time.monotonic()
        line = service.line()
        while line.tell("begin", {"job": "1", "run": 1})[0] != 200:
            assert time.monotonic() - begun < 10
        assert time.monotonic() - begun >= 0.4

    calling(service, calls)


def test_files_come_in_pieces_that_may_come_twice_and_only_below_the_mount_root(service: Service) -> None:
    def calls() -> None:
        line = service.line()
        service.order(0)
        for _ in range(2):
            line.send(*piece("out/deep/file", b"hello "))
        line.send(*piece("out/deep/file", b"world", 6, last=1))
        assert service.file("out/deep/file").read_bytes() == b"hello world"
        assert service.file("out/deep/file").stat().st_mode & 0o777 == 0o755
        line.send(*piece("out/deep/file", b"new", last=1))
        assert service.file("out/deep/file").read_bytes() == b"new"
        service.file("link").symlink_to("/tmp")
        service.file("name").symlink_to(service.file("out/deep/file"))
        wrong = ("../x", "/etc/x", "a/../../x", "", "link/x", "name", "out/deep", "out/deep/file/x", "x" * 300)
        for path in wrong:
            with pytest.raises(Wrong):
                line.send(*piece(path, b"!"))
        assert service.file("out/deep/file").read_bytes() == b"new"
        assert line.tell("logs", {"run": 0, "path": "out"})[1] == {"deep/file": 3}

    calling(service, calls)


def test_without_room_it_is_asked_to_come_later(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainshed.engines.slurm.relay.filing._SPARE", 1 << 60)

    def calls() -> None:
        service.order(0)
        with pytest.raises(Away, match="507"):
            service.line().send(*piece("out", b"data"))
        assert not service.file("out").exists()

    calling(service, calls)


def test_news_reach_an_open_call(service: Service) -> None:
    stop = {"stop": {"code": "JobTerminated"}}

    async def whole() -> None:
        await service.relay.start("127.0.0.1", service.port)
        try:
            service.order(0)
            message = {"run": 0, "index": 0, "told": 0, "heard": 0, "wait": 60}
            waiting = asyncio.create_task(asyncio.to_thread(service.line().tell, "beat", message, wait=60))
            told = service.root.attempt("attempt-0").told
            while not waiting.done():
                if not told.exists():
                    places.append(told, stop)
                service.relay.tell()
                await asyncio.sleep(0.01)
            assert await waiting == (200, {"told": [stop], "heard": []})
        finally:
            await service.relay.close()

    asyncio.run(whole())


def test_an_outcome_is_kept_and_the_first_one_stands(service: Service) -> None:
    def calls() -> None:
        line = service.line()
        service.order(0)
        told = {"run": 0, "index": 0, "signalled": False}
        line.tell("outcome", {**told, "outcome": SUCCEEDED})
        line.tell("outcome", {**told, "outcome": {**SUCCEEDED, "result": "failed"}})
        found = read_outcome(str(service.root.attempt("attempt-0").state(0)))
        assert found is not None and found.result == "succeeded"

    calling(service, calls)


def test_the_first_node_s_word_waits_for_the_others_files(tmp_path: Path) -> None:
    service = Service(tmp_path, lease=0.5)

    def calls() -> None:
        line = service.line()
        service.order(0, nodes=3)
        line.tell("hosts", {"run": 0, "hosts": {"hosts": [{}, {}, {}]}})
        told = {"run": 0, "index": 0, "outcome": SUCCEEDED, "signalled": False}
        assert line.tell("outcome", told)[0] == 202
        assert line.tell("outcome", {**told, "index": 1})[0] == 204
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            line.tell("beat", {"run": 0, "index": 2, "told": 0, "heard": 0, "wait": 0})
            assert line.tell("outcome", told)[0] == 202
        while line.tell("outcome", told)[0] == 202:
            assert time.monotonic() < until + 10.0  # The third is not heard of any more.
        assert read_outcome(str(service.root.attempt("attempt-0").state(0))) is not None

    calling(service, calls)


def test_code_is_given_by_content_to_the_job_that_has_it(service: Service, tmp_path: Path) -> None:
    digest, other = hashlib.sha256(b"code").hexdigest(), hashlib.sha256(b"other").hexdigest()

    def calls() -> None:
        service.order(0)
        place = service.root.ticket("ticket").order(0)
        manifest = {"a.py": {"sha256": digest}}
        places.write(place, {"spec": {"attempt_id": "attempt-0", "code_manifest": manifest}, "former": None})
        folder = service.root.attempt("attempt-0").code
        for name, content in ((digest, b"code"), (other, b"other")):
            (folder / name[:2]).mkdir(parents=True, exist_ok=True)
            (folder / name[:2] / name).write_bytes(content)
        get = partial(service.line().fetch)
        get(f"code/{digest}?run=0", digest, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b"code"
        with pytest.raises(Gone):
            get(f"code/{other}?run=0", other, tmp_path / "not")
        (folder / digest[:2] / digest).write_bytes(b"damaged")
        with pytest.raises(Wrong):
            get(f"code/{digest}?run=0", digest, tmp_path / "not")

    calling(service, calls)
