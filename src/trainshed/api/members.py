"""Members that only 2026-11-01 has: what the original contract's clients neither see nor take away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainshed.resources.cluster import AutoScaleSettings, ClusterProperties, NodeSetup
from trainshed.resources.job import JobProperties
from trainshed.resources.mounts import AzureBlobFileSystem, MountVolumes
from trainshed.resources.settings import TensorFlowSettings

_AUTO = "autoScale"
_TENSORFLOW = "tensorFlowSettings"
_VOLUMES, _BLOBS, _SETUP = "mountVolumes", "azureBlobFileSystems", "nodeSetup"


def original_job(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A job's properties as 2018-05-01 has them."""
    found = _without(definition, JobProperties.since_2026)
    if _TENSORFLOW in found:
        found[_TENSORFLOW] = _without(found[_TENSORFLOW], TensorFlowSettings.since_2026)
    return _with_original_volumes(found)


def original_cluster(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A cluster's properties, but for its scale, as 2018-05-01 has them."""
    found = _without(definition, ClusterProperties.since_2026)
    if _SETUP in found:
        found[_SETUP] = _with_original_volumes(_without(found[_SETUP], NodeSetup.since_2026))
    return found


def original_scale(scale: Mapping[str, Any]) -> dict[str, Any]:
    """scaleSettings as 2018-05-01 has them."""
    if _AUTO not in scale:
        return dict(scale)
    return {**scale, _AUTO: _without(scale[_AUTO], AutoScaleSettings.since_2026)}


def keep_newer_scale(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """``wanted``, which a client of 2018-05-01 sent, with what was stored of the members that it cannot know."""
    if _AUTO not in stored or _AUTO not in wanted:
        return dict(wanted)
    newer = {name: value for name, value in stored[_AUTO].items() if name in AutoScaleSettings.since_2026}
    return {**wanted, _AUTO: {**wanted[_AUTO], **newer}}


def _with_original_volumes(definition: Mapping[str, Any]) -> dict[str, Any]:
    if _VOLUMES not in definition:
        return dict(definition)
    volumes = _without(definition[_VOLUMES], MountVolumes.since_2026)
    if _BLOBS in volumes:
        volumes[_BLOBS] = [_without(entry, AzureBlobFileSystem.since_2026) for entry in volumes[_BLOBS]]
    return {**definition, _VOLUMES: volumes}


def _without(definition: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in definition.items() if name not in names}
