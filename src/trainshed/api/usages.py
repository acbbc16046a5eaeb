"""Usages of a region, and the VM sizes that clusters may have."""

from __future__ import annotations

from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.resources.names import check_location
from trainshed.resources.usage import usage_rows
from trainshed.resources.vmsizes import supported_sizes
from trainshed.store.usages import Region, of_region


async def list_usages(call: Call) -> Response:
    """GET: how many clusters and cores the subscription uses in a region, and how many it may (rest-contract 11).

    2026-11-01 also has the rows of this machine's own sizes.
    """
    location, subscription = call.part("location"), call.subscription
    check_location(location)
    uses = await call.read(lambda tx: of_region(tx, Region.of(subscription, location)))
    limits = call.services.quotas.limits(subscription)
    return answer({"value": usage_rows(uses, limits, call.services.local_sizes, own_sizes=call.newer)})


async def list_vm_sizes(call: Call) -> Response:
    """GET (2026-11-01): the sizes that clusters may have, those of this machine included, by name."""
    check_location(call.part("location"))
    sizes = supported_sizes(call.services.local_sizes)
    return answer(
        {
            "value": [
                {
                    "name": size.name,
                    "family": size.family,
                    "numberOfCores": size.cores,
                    "memoryInMB": size.memory_mib,
                    "gpus": size.gpus,
                }
                for size in sizes
            ]
        }
    )
