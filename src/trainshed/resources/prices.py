"""What a node costs for an hour, by VM size: an administrator's ``prices.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FILE_NAME = "prices.json"
_PRIORITIES = ("dedicated", "lowpriority")
_EXAMPLE = '{"currency": "EUR", "sizes": {"STANDARD_NC6": {"dedicated": 0.9, "lowpriority": 0.2}, "STANDARD_D1": 0.1}}'


class InvalidPrices(Exception):
    """The prices that an administrator wrote cannot be read: the message says what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of an hour of a node; a size without one costs nothing."""

    currency: str = ""
    #: By size in upper case, then by vmPriority.
    sizes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, vm_size: str, vm_priority: str) -> float:
        """For an hour of a node of this size."""
        return self.sizes.get(vm_size.upper(), {}).get(vm_priority, 0.0)


def read_prices(text: str) -> Prices:
    """Read what an administrator wrote. A single number is the price for both priorities. Raises InvalidPrices."""
    try:
        written = json.loads(text)
    except ValueError as error:
        raise InvalidPrices(f"it is not JSON ({error})") from None
    if not isinstance(written, dict) or not isinstance(written.get("sizes"), dict):
        raise InvalidPrices(f"it must be an object with sizes, for example {_EXAMPLE}")
    if unknown := sorted(set(written) - {"currency", "sizes"}):
        raise InvalidPrices(f"{unknown[0]!r} is not known: it has currency and sizes")
    currency = written.get("currency", "")
    if not isinstance(currency, str):
        raise InvalidPrices("currency must be a text such as EUR")
    return Prices(currency, {size.upper(): _prices(size, given) for size, given in written["sizes"].items()})


def _prices(size: str, given: Any) -> dict[str, float]:
    if not isinstance(given, dict):
        given = dict.fromkeys(_PRIORITIES, given)
    for priority, price in given.items():
        if priority not in _PRIORITIES:
            raise InvalidPrices(f"{size!r} has {priority!r}: it must be one of {' and '.join(_PRIORITIES)}")
        if not isinstance(price, int | float) or isinstance(price, bool) or not 0 <= price < 1e9:
            raise InvalidPrices(f"the price of {size!r} must be a number, 0 or more, for an hour of a node")
    return {priority: float(price) for priority, price in given.items()}
