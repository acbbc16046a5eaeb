"""Case of paths: fixed segments match without regard to case, names are left as given (rest-contract section 1)."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_SPELLINGS = {
    text.lower(): text
    for text in (
        "subscriptions", "resourceGroups", "providers", "workspaces", "clusters", "fileServers",
        "experiments", "jobs", "locations", "usages", "operations", "operationresults", "operationstatuses", "vmSizes",
        "listOutputFiles", "listRemoteLoginInformation", "terminate", "preempt", "attempts", "events", "nodes", "logs",
        "code",
        "Microsoft.Authorization", "roleAssignments", "roleDefinitions", "Trainshed.Identity", "principals", "tokens",
        "Trainshed.Audit", "entries",
        "planJob", "evict", "jobArrays", "queue", "explanation", "schedulingRules",
        "tenants", "register", "unregister",
        "storageAccounts", "checkNameAvailability", "listKeys", "regenerateKey",
        "services", "volumes", "content", "missing", "remove",
        "vault",
    )
}  # fmt: skip


_NAMESPACES = {
    text.lower(): text
    for text in ("Microsoft.BatchAI", "Microsoft.Storage", "Microsoft.Resources", "Microsoft.Authorization")
}


def canonical(path: str) -> str:
    """The path with its fixed segments in the spelling that the routes have.

    Below ``/subscriptions`` types and names alternate; after ``providers`` the namespace comes first. A segment in a
    name's place is never touched: a workspace may be called ``Jobs``.
    """
    parts = path.split("/")
    if len(parts) < 2 or parts[1].lower() not in ("subscriptions", "providers", "tenants"):
        return path
    index = 1
    while index < len(parts):
        spelling = _SPELLINGS.get(parts[index].lower(), parts[index])
        parts[index] = spelling
        if spelling == "providers" and index + 1 < len(parts):
            # The namespace stands where a name would; types and names alternate again after it.
            parts[index + 1] = _NAMESPACES.get(parts[index + 1].lower(), parts[index + 1])
        index += 2
    return "/".join(parts).rstrip("/")


class PathCaseMiddleware:
    """Rewrites the path before it is routed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = canonical(scope["path"])
        await self.app(scope, receive, send)
