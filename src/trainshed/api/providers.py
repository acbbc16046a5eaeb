"""Registration of resource providers: they are registered, always. Clients ask and register before their first call."""

from __future__ import annotations

from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.errors import GATEWAY, ApiError
from trainshed.api.subscriptions import places_of
from trainshed.resources.arm_views import provider_namespace, provider_namespaces, provider_view


async def list_providers(call: Call) -> Response:
    """GET all."""
    subscription = call.subscription
    places = await call.read(lambda tx: places_of(tx, call, subscription))
    return answer({"value": [provider_view(subscription, name, places) for name in provider_namespaces()]})


async def get_provider(call: Call) -> Response:
    """GET one."""
    subscription, namespace = call.subscription, _namespace(call)
    places = await call.read(lambda tx: places_of(tx, call, subscription))
    return answer(provider_view(subscription, namespace, places))


async def register(call: Call) -> Response:
    """POST: it is registered already."""
    return await get_provider(call)


async def unregister(call: Call) -> Response:
    """POST: accepted without effect; a provider of this service cannot be taken away from a subscription."""
    return await get_provider(call)


def _namespace(call: Call) -> str:
    given = call.part("namespace")
    found = provider_namespace(given)
    if found is None:
        raise ApiError(
            404,
            "InvalidResourceNamespace",
            f"The resource namespace '{given[:100]}' is invalid. There are {', '.join(provider_namespaces())}.",
            target="resourceProviderNamespace",
            headers=GATEWAY,
        )
    return found
