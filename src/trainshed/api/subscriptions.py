"""Subscriptions, tenants and locations: what clients ask Azure Resource Manager before they ask the provider.

A subscription is a namespace. It exists by being named; lists show the local one and those that have a group.
"""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.identity import Scope
from trainshed.resources.arm_views import location_view, subscription_view, tenant_view
from trainshed.resources.names import LOCAL_SUBSCRIPTION, normal_location
from trainshed.store import resource_groups

_READ = "Microsoft.Resources/subscriptions/read"


async def list_subscriptions(call: Call) -> Response:
    """GET: the local one, then those that are in use; as far as the caller may see something in them."""
    used = await call.read(resource_groups.subscriptions)
    shown = [LOCAL_SUBSCRIPTION, *(name for name in used if name.lower() != LOCAL_SUBSCRIPTION)]
    seen = [name for name in shown if call.caller.may_somewhere_in(_READ, Scope(name).key)]
    return answer({"value": [subscription_view(name) for name in seen]})


async def get_subscription(call: Call) -> Response:
    """GET one: any that could be one."""
    return answer(subscription_view(call.subscription))


async def list_tenants(call: Call) -> Response:
    """GET: the one tenant."""
    return answer({"value": [tenant_view()]})


async def list_locations(call: Call) -> Response:
    """GET: the service's own region, and those that the subscription's groups name; any other may be used too."""
    subscription = call.subscription
    places = await call.read(lambda tx: places_of(tx, call, subscription))
    return answer({"value": [location_view(subscription, place) for place in places]})


def places_of(tx: Connection, call: Call, subscription: str) -> list[str]:
    """The service's own region and, for who may see the whole subscription, those in use; each once."""
    own = call.services.location
    places = {normal_location(own): own}
    if not call.caller.may(_READ, Scope(subscription).key):
        return [own]
    for place in resource_groups.locations(tx, subscription):
        places.setdefault(normal_location(place), place)
    return list(places.values())
