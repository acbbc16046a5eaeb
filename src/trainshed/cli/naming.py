"""Friendly names for jobs that were given none: an adjective, a noun, a number."""

from __future__ import annotations

import secrets

_ADJECTIVES = """
    amber bold brave bright calm clever crisp deft eager early fair fleet gentle glad golden happy keen kind light
    lively lucid mellow merry mild modest neat nimble noble patient plucky polite proud quick quiet rapid ready serene
    sharp shiny silver smart steady sunny swift tidy vivid warm wise witty young
"""
_NOUNS = """
    acorn anchor aspen badger beacon birch brook cedar clover comet coral crane dune elm falcon fern finch fjord
    garnet grove harbor hawk heron island juniper kestrel lagoon lark lily linden lynx maple meadow mesa moss oak
    orchid otter pebble pine plover poplar quartz raven reef river robin sequoia spruce swan thrush tulip willow wren
"""


def friendly_name() -> str:
    """For example ``swift-heron-417``; a name of the contract (1 to 64 letters, digits, dashes)."""
    adjective, noun = secrets.choice(_ADJECTIVES.split()), secrets.choice(_NOUNS.split())
    return f"{adjective}-{noun}-{secrets.randbelow(900) + 100}"
