"""Resource groups. One comes into being by PUT or, unlike Azure's, with the first workspace in it."""

from __future__ import annotations

from urllib.parse import quote

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api import lro
from trainshed.api.answers import JSON, RETRY_AFTER, answer
from trainshed.api.authorization import visible
from trainshed.api.call import Call
from trainshed.api.errors import GATEWAY, ApiError
from trainshed.api.lookup import find
from trainshed.api.paging import page, page_request
from trainshed.identity import Scope
from trainshed.resources import parsing
from trainshed.resources.arm_views import Json, resource_group_view
from trainshed.resources.ids import resource_group_key
from trainshed.resources.lifecycle import OperationState, OperationVerb, ProvisioningEvent, ProvisioningState
from trainshed.resources.names import normal_location
from trainshed.store import resource_groups, workspaces
from trainshed.store.records import OperationRecord, ResourceGroupRecord

READ = "Microsoft.Resources/subscriptions/resourceGroups/read"


async def create(call: Call) -> Response:
    """PUT: 201 for a new one, 200 for one that is there; its tags are replaced, its location cannot change (409)."""
    key, name, subscription = _key(call), call.group, call.subscription
    body = parsing.parse_resource_group(await call.body())
    tags = dict(body.tags or {})
    now = call.now()

    def store(tx: Connection) -> tuple[int, ResourceGroupRecord]:
        existing = find(resource_groups.get, tx, key)
        if existing is None:
            return 201, insert(tx, subscription, name, body.location, tags, now)
        _refuse_deleting(existing)
        if normal_location(existing.location) != normal_location(body.location):
            raise ApiError(
                409,
                "InvalidResourceGroupLocation",
                f"Invalid resource group location '{body.location}'. The Resource group already exists in location "
                f"'{existing.location}'. Use that location or another name.",
                target="location",
                headers=GATEWAY,
            )
        if existing.tags != tags:
            return 200, resource_groups.set_tags(tx, key, tags, now)
        return 200, existing

    status, record = await call.write(store)
    return answer(view(record), status)


async def update(call: Call) -> Response:
    """PATCH: the tags given replace those that were."""
    key, name = _key(call), call.group
    tags = parsing.parse_resource_group_update(await call.body()).tags
    now = call.now()

    def store(tx: Connection) -> ResourceGroupRecord:
        existing = required(tx, key, name)
        _refuse_deleting(existing)
        return existing if tags is None else resource_groups.set_tags(tx, key, dict(tags), now)

    return answer(view(await call.write(store)))


async def get(call: Call) -> Response:
    """GET one."""
    key, name = _key(call), call.group
    return answer(view(await call.read(lambda tx: required(tx, key, name))))


async def exists(call: Call) -> Response:
    """HEAD: 204 when it is there, 404 when not."""
    key = _key(call)
    record = await call.read(lambda tx: find(resource_groups.get, tx, key))
    return Response(status_code=404 if record is None else 204, headers=GATEWAY if record is None else None)


async def list_in_subscription(call: Call) -> Response:
    """GET those of a subscription in which the caller may see something, in order of their names."""
    subscription = call.subscription
    asked = page_request(call)

    def query(tx: Connection) -> bytes:
        rows = visible(
            lambda after: resource_groups.page(tx, subscription, after, asked.one_more),
            lambda record: record.key,
            lambda record: call.caller.may_somewhere_in(READ, Scope(record.subscription, record.name).key),
            asked.after,
            asked.one_more,
        )
        return page(call, asked, rows, view, lambda record: record.key)

    return Response(await call.read(query), media_type=JSON)


async def delete(call: Call) -> Response:
    """DELETE: 202; the controller removes everything in it, then the group. 404 when it is not there, as in Azure."""
    key, name = _key(call), call.group
    now = call.now()

    def store(tx: Connection) -> OperationRecord:
        existing = required(tx, key, name)
        if existing.state is not ProvisioningState.DELETING:
            resource_groups.apply(tx, key, ProvisioningEvent.DELETE_REQUESTED, now)
            # In the same transaction, so that nothing new comes into what is on its way out.
            for workspace in workspaces.of_group(tx, existing.subscription, existing.name):
                if workspace.state is not ProvisioningState.DELETING:
                    workspaces.apply(tx, workspace.key, ProvisioningEvent.DELETE_REQUESTED, now)
        return lro.begin(
            tx,
            subscription=existing.subscription,
            location=existing.location,
            resource_id=f"{existing.subscription}${existing.name.lower()}",
            verb=OperationVerb.DELETE_GROUP,
            resource_key=key,
            now=now,
        )

    return _accepted(call, await call.write(store))


async def get_result(call: Call) -> Response:
    """GET: 202 with the same headers while the deletion goes on, then 200."""
    operation = await lro.required(call, lambda found: _may_see(call, found), GATEWAY)
    if operation.status is OperationState.IN_PROGRESS:
        return _accepted(call, operation)
    return Response(status_code=200)


def view(record: ResourceGroupRecord) -> Json:
    """The group's JSON."""
    return resource_group_view(
        subscription=record.subscription,
        name=record.name,
        location=record.location,
        tags=record.tags,
        state=record.state.value,
    )


def required(tx: Connection, key: str, name: str) -> ResourceGroupRecord:
    """The group. Raises ApiError 404 with Azure Resource Manager's code and message."""
    record = find(resource_groups.get, tx, key)
    if record is None:
        raise ApiError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.", headers=GATEWAY)
    return record


def insert(
    tx: Connection, subscription: str, name: str, location: str, tags: dict[str, str], now: int
) -> ResourceGroupRecord:
    """Store a new group."""
    record = ResourceGroupRecord(
        key=resource_group_key(subscription, name),
        subscription=subscription,
        name=name,
        location=location,
        tags=tags,
        state=ProvisioningState.SUCCEEDED,
        state_at=now,
        created_at=now,
        modified_at=now,
    )
    resource_groups.insert(tx, record)
    return record


def opened(tx: Connection, key: str, name: str) -> ResourceGroupRecord:
    """The group, ready to take something new. Raises ApiError 404, and 409 while it is being deleted."""
    record = required(tx, key, name)
    _refuse_deleting(record)
    return record


def _refuse_deleting(record: ResourceGroupRecord) -> None:
    if record.state is ProvisioningState.DELETING:
        raise ApiError(
            409,
            "ResourceGroupBeingDeleted",
            f"The resource group '{record.name}' is in deprovisioning state and cannot perform this operation. Wait "
            "until a GET of it answers 404, then try again, or use another name.",
            target="resourceGroupName",
            headers=GATEWAY,
        )


def _may_see(call: Call, operation: OperationRecord) -> bool:
    names = operation.resource_id.split("$")
    return call.caller.may_somewhere_in(READ, Scope(*names[:2]).key)


def _accepted(call: Call, operation: OperationRecord) -> Response:
    version = call.query.get("api-version")
    url = f"{call.base_url}/subscriptions/{quote(operation.subscription)}/operationresults/{operation.id}"
    location = f"{url}?api-version={quote(version, safe='')}" if version else url
    return Response(b"", 202, {"Location": location, "Retry-After": RETRY_AFTER, "Content-Length": "0"})


def _key(call: Call) -> str:
    return resource_group_key(call.subscription, call.group)
