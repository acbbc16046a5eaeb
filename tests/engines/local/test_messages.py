"""Framing of JSON lines."""

from __future__ import annotations

import pytest

from trainshed.engines.local.messages import Lines, encode

MESSAGES = [{"a": 1}, {"text": "line\nbreak é"}, {"nested": {"list": [1, None, True]}}]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_messages_survive_any_cut(size: int) -> None:
    data = b"".join(map(encode, MESSAGES))
    lines, seen = Lines(), []
    for start in range(0, len(data), size):
        seen += lines.feed(data[start : start + size])
    assert seen == MESSAGES


def test_a_message_is_one_line() -> None:
    assert all(encode(message).count(b"\n") == 1 for message in MESSAGES)


def test_half_a_message_waits() -> None:
    lines = Lines()
    assert lines.feed(b'{"a":') == []
    assert lines.feed(b"1}\n") == [{"a": 1}]
