"""The vault's key, changed while the service runs."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection
from starlette.responses import Response

from trainshed.api.answers import answer
from trainshed.api.call import Call
from trainshed.api.errors import ApiError
from trainshed.identity import VaultError
from trainshed.identity.keyring import KEY_VARIABLE, KeyRing
from trainshed.identity.rotation import Rotation, survey
from trainshed.identity.vault import key_id
from trainshed.store import secrets

#: Seconds for which what was read before the rotation can still be opened.
LAST_OPENING_SECONDS = 60.0


async def rotate(call: Call) -> Response:
    """POST: every stored secret is sealed with a new key, in one transaction. Links that were given before end."""
    services = call.services
    async with services.rotating:
        with services.alone() as alone:
            if not alone:
                raise _refused(
                    "Other processes of the service hold the old key, and would go on sealing with it. Stop all but "
                    "one, or all of them and use: trainshed vault rotate"
                )
            old, key, count = await _rotate(call)
    # A start that is under way may hold a sealed value that it read a moment ago.
    asyncio.get_running_loop().call_later(LAST_OPENING_SECONDS, services.vault.drop, *old)
    return answer({"keyId": key_id(key).hex(), "secrets": count})


async def _rotate(call: Call) -> tuple[tuple[bytes, ...], bytes, int]:
    """The old keys, the new one, and how many secrets it seals now. Raises ApiError."""
    services = call.services
    ring = await asyncio.to_thread(KeyRing.load_or_create, services.home)
    if not ring.from_file:
        raise _refused(
            f"The vault's key comes from {KEY_VARIABLE}, where the service cannot put a new one. Stop the service "
            "and use: trainshed vault rotate --new-key-env NAME"
        )
    found = await services.db.read(lambda tx: survey(services.vault, secrets.all(tx)))
    if found.unreadable:
        owner, path = found.unreadable[0]
        raise _refused(
            f"The secret {path} of the resource with uid {owner} does not open with the present key "
            f"({len(found.unreadable)} in all). Delete that job or cluster, or restore the database."
        )
    old = services.vault.keys
    rotation = Rotation(services.home, ring, services.vault)
    await asyncio.to_thread(rotation.stage)

    def reseal(tx: Connection) -> int:
        changed = rotation.reseal(secrets.all(tx))
        secrets.replace(tx, changed)
        return len(changed)

    try:
        count = await services.db.write(reseal)
    except VaultError as error:
        # Something may be sealed with the new key already: both stay, and the next rotation ends this one.
        raise _refused(f"Not every secret could be sealed anew: {error}. All others open as before.") from error
    await asyncio.to_thread(rotation.finish)
    return old, rotation.key, count


def _refused(message: str) -> ApiError:
    return ApiError(409, "VaultKeyNotRotated", message)
