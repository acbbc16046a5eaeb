"""What every answer must be like, whatever was asked (rest-contract sections 1, 3 and 4)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from tests.specification.wire import Answer, Request

_GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FIXED = {
    "cache-control": "no-cache",
    "pragma": "no-cache",
    "expires": "-1",
    "x-content-type-options": "nosniff",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
}
_REMAINING = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}
_JSON = "application/json; charset=utf-8"
#: What Azure Resource Manager and the provider answer when they say no (section 4), and HTTP's own refusals.
REFUSALS = frozenset({400, 401, 403, 404, 405, 409, 413, 415, 416})
_ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {"error": {"$ref": "#/$defs/error"}},
    "$defs": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
                "message": {"type": "string", "minLength": 10},
                "target": {"type": "string", "minLength": 1},
                "details": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/error"}},
            },
        }
    },
}
_ERROR_VALIDATOR = Draft202012Validator(_ERROR)

#: Order of members (section 6).
_ORDER = {
    "clusters": (
        "provisioningState", "allocationState", "creationTime", "allocationStateTransitionTime",
        "provisioningStateTransitionTime", "vmSize", "currentNodeCount", "nodeStateCounts", "vmPriority",
        "scaleSettings", "errors", "virtualMachineConfiguration", "userAccountSettings", "nodeSetup", "subnet",
    ),
    "jobs": (
        "experimentName", "schedulingPriority", "cluster", "jobOutputDirectoryPathSegment", "nodeCount",
        "containerSettings", "mountVolumes", "toolType", "cntkSettings", "pyTorchSettings", "tensorFlowSettings",
        "caffeSettings", "caffe2Settings", "chainerSettings", "customToolkitSettings", "customMpiSettings",
        "horovodSettings", "jobPreparation", "stdOutErrPathPrefix", "inputDirectories", "outputDirectories",
        "environmentVariables", "secrets", "constraints", "creationTime", "provisioningState",
        "provisioningStateTransitionTime", "executionState", "executionStateTransitionTime", "executionInfo",
    ),
}  # fmt: skip
#: toolType by the member that a job has its settings in (section 6).
TOOLS = {
    "cntkSettings": "cntk", "pyTorchSettings": "pytorch", "tensorFlowSettings": "tensorflow", "caffeSettings": "caffe",
    "caffe2Settings": "caffe2", "chainerSettings": "chainer", "customToolkitSettings": "custom",
    "customMpiSettings": "custommpi", "horovodSettings": "horovod",
    # Those of 2026-11-01.
    "torchrunSettings": "torchrun", "jaxSettings": "jax", "deepSpeedSettings": "deepspeed",
    "accelerateSettings": "accelerate", "lightningSettings": "lightning", "raySettings": "ray",
}  # fmt: skip


def check_headers(request: Request, answer: Answer) -> None:
    """Section 1's table of headers, and HTTP's own rules."""
    headers = answer.headers
    assert not answer.repeated, f"repeated headers {sorted(answer.repeated)}"
    for name, value in _FIXED.items():
        assert headers.get(name) == value, f"{name} is {headers.get(name)!r}"
    request_id = headers["x-ms-request-id"]
    assert re.fullmatch(_GUID, request_id)
    assert headers["x-ms-correlation-request-id"] == request_id
    assert re.fullmatch(rf"[A-Z0-9]+:\d{{8}}T\d{{6}}Z:{_GUID}", headers["x-ms-routing-request-id"])
    of_gateway = "x-ms-failure-cause" in headers
    assert ("request-id" in headers) is not of_gateway, "request-id goes with answers of the provider itself"
    path = request.target.partition(b"?")[0].lower()
    if re.match(rb"/subscriptions/[^/%]", path) and b"%2f" not in path:
        kind = _REMAINING.get(request.method, "writes")
        assert f"x-ms-ratelimit-remaining-subscription-{kind}" in headers
    if "content-length" in headers and request.method != "HEAD":
        assert int(headers["content-length"]) == len(answer.body)
    if answer.status in (202, 204):
        assert answer.body == b""
    if answer.body:
        assert headers.get("content-type"), "a body has a type"
    else:
        assert answer.status == 204 or headers.get("content-length") == "0" or request.method == "HEAD"


def check_error(request: Request, answer: Answer) -> dict[str, Any]:
    """A refusal: a status that ARM gives, and ``{"error": {code, message, target?, details?}}``. Returns the error."""
    assert answer.status in REFUSALS, f"status {answer.status}"
    if request.method == "HEAD":
        return {}
    assert answer.headers["content-type"] == _JSON
    body = answer.json()
    _ERROR_VALIDATOR.validate(body)
    assert "etag" not in answer.headers and "last-modified" not in answer.headers
    assert ("www-authenticate" in answer.headers) == (answer.status == 401)
    assert ("allow" in answer.headers) == (answer.status == 405)
    error: dict[str, Any] = body["error"]
    return error


def check_accepted(answer: Answer) -> None:
    """202: both headers absolute, crossed, with one id; a wait in seconds."""
    headers = answer.headers
    ids = []
    for name, kind in (("azure-asyncoperation", "operationresults"), ("location", "operationstatuses")):
        url = urlsplit(headers[name])
        assert url.scheme in ("http", "https") and url.netloc
        match = re.fullmatch(
            rf"/subscriptions/[^/]+/providers/Microsoft\.BatchAI/locations/[^/]+/{kind}/({_GUID})", url.path
        )
        assert match is not None, f"{name}: {headers[name]}"
        assert url.query.startswith("api-version=")
        ids.append(match[1])
    assert ids[0] == ids[1]
    assert headers["retry-after"].isdigit() and headers["content-length"] == "0"


def check_not_accepted(answer: Answer) -> None:
    """What is done at once has none of the headers of an operation."""
    assert not {"azure-asyncoperation", "location"} & set(answer.headers)


def check_entity_headers(answer: Answer, *, single: bool) -> None:
    """ETag and Last-Modified: on one resource, and nowhere else (section 1)."""
    if single:
        assert re.fullmatch(r'"0x8D[0-9A-F]{13}"', answer.headers["etag"])
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["last-modified"])
    else:
        assert "etag" not in answer.headers and "last-modified" not in answer.headers


def check_resource(resource: dict[str, Any], *, newer: bool = False) -> None:
    """Envelope, id, and the rules between members (sections 1 and 6)."""
    assert list(resource)[:3] == ["id", "name", "type"] and list(resource)[-1] == "properties"
    match = re.fullmatch(
        r"/subscriptions/[^/]+/resourceGroups/([^/]+)/providers/Microsoft\.BatchAI/workspaces/[^/]+"
        r"(?:/(clusters|fileservers|experiments)/[^/]+(?:/(jobs)/[^/]+)?)?",
        resource["id"],
    )
    assert match is not None, resource["id"]
    group, middle, last = match.groups()
    assert group == group.lower()
    assert resource["id"].endswith(f"/{resource['name']}")
    types = ["Microsoft.BatchAI/workspaces", *(part for part in (middle, last) if part)]
    assert resource["type"] == "/".join(types)
    kind = last or middle or "workspaces"
    assert ("location" in resource) == (kind == "workspaces")
    assert resource.get("tags") != {}
    properties = resource["properties"]
    order = _ORDER.get(kind)
    if order is not None:
        found = [member for member in properties if member in order]
        assert found == [member for member in order if member in properties], f"order of members: {found}"
    if kind == "clusters":
        assert properties["vmSize"] == properties["vmSize"].upper()
        assert properties.get("errors") != []
        assert len(properties["scaleSettings"]) == 1
        assert properties["currentNodeCount"] == sum(properties["nodeStateCounts"].values())
    if kind == "jobs":
        _check_job(resource["id"], properties)


def _check_job(job_id: str, job: dict[str, Any]) -> None:
    (settings,) = [member for member in job if member in TOOLS]
    assert job["toolType"] == TOOLS[settings]
    assert f"/experiments/{job['experimentName']}/" in job_id
    info, state = job.get("executionInfo"), job["executionState"]
    if state == "queued":
        assert info is None
    elif state == "running":
        assert set(info or {}) == {"startTime"}
    elif state in ("succeeded", "failed"):
        assert info is not None and "endTime" in info
        assert ("errors" in info) == (state == "failed")
        if any(error["code"] == "JobTerminated" for error in info.get("errors", [])):
            assert "exitCode" not in info
