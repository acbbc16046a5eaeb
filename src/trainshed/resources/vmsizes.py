"""The catalogue of VM sizes: Azure's names with their cores, memory and GPUs, and sizes that describe a machine.

Figures are Azure's published ones of 2018. Keys are in upper case, as the service returns them (rest-contract
section 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VmSize:
    """What a node of this size has. ``family`` is the quota family as in usages (``D``, ``NCv2``, ...)."""

    name: str
    cores: int
    memory_mib: int
    gpus: int
    family: str
    #: Not offered for clusters: premium-storage sizes and STANDARD_A0 (behaviour 3.1).
    for_clusters: bool = True


# Suffix of the name after STANDARD_, cores, memory in GiB, GPUs; by family.
_AZURE: dict[str, tuple[tuple[str, int, float, int], ...]] = {
    "A": (
        ("A0", 1, 0.75, 0), ("A1", 1, 1.75, 0), ("A2", 2, 3.5, 0), ("A3", 4, 7, 0), ("A4", 8, 14, 0),
        ("A5", 2, 14, 0), ("A6", 4, 28, 0), ("A7", 8, 56, 0), ("A8", 8, 56, 0), ("A9", 16, 112, 0),
        ("A10", 8, 56, 0), ("A11", 16, 112, 0),
    ),
    "Av2": (
        ("A1_V2", 1, 2, 0), ("A2_V2", 2, 4, 0), ("A4_V2", 4, 8, 0), ("A8_V2", 8, 16, 0),
        ("A2M_V2", 2, 16, 0), ("A4M_V2", 4, 32, 0), ("A8M_V2", 8, 64, 0),
    ),
    "D": (
        ("D1", 1, 3.5, 0), ("D2", 2, 7, 0), ("D3", 4, 14, 0), ("D4", 8, 28, 0),
        ("D11", 2, 14, 0), ("D12", 4, 28, 0), ("D13", 8, 56, 0), ("D14", 16, 112, 0),
    ),
    "Dv2": (
        ("D1_V2", 1, 3.5, 0), ("D2_V2", 2, 7, 0), ("D3_V2", 4, 14, 0), ("D4_V2", 8, 28, 0), ("D5_V2", 16, 56, 0),
        ("D11_V2", 2, 14, 0), ("D12_V2", 4, 28, 0), ("D13_V2", 8, 56, 0), ("D14_V2", 16, 112, 0),
        ("D15_V2", 20, 140, 0),
    ),
    "Dv3": (
        ("D2_V3", 2, 8, 0), ("D4_V3", 4, 16, 0), ("D8_V3", 8, 32, 0), ("D16_V3", 16, 64, 0),
        ("D32_V3", 32, 128, 0), ("D64_V3", 64, 256, 0),
    ),
    "Ev3": (
        ("E2_V3", 2, 16, 0), ("E4_V3", 4, 32, 0), ("E8_V3", 8, 64, 0), ("E16_V3", 16, 128, 0),
        ("E32_V3", 32, 256, 0), ("E64_V3", 64, 432, 0),
    ),
    "F": (("F1", 1, 2, 0), ("F2", 2, 4, 0), ("F4", 4, 8, 0), ("F8", 8, 16, 0), ("F16", 16, 32, 0)),
    "G": (("G1", 2, 28, 0), ("G2", 4, 56, 0), ("G3", 8, 112, 0), ("G4", 16, 224, 0), ("G5", 32, 448, 0)),
    "H": (
        ("H8", 8, 56, 0), ("H16", 16, 112, 0), ("H8M", 8, 112, 0), ("H16M", 16, 224, 0), ("H16R", 16, 112, 0),
        ("H16MR", 16, 224, 0),
    ),
    "NC": (("NC6", 6, 56, 1), ("NC12", 12, 112, 2), ("NC24", 24, 224, 4), ("NC24R", 24, 224, 4)),
    "NCv2": (
        ("NC6S_V2", 6, 112, 1), ("NC12S_V2", 12, 224, 2), ("NC24S_V2", 24, 448, 4), ("NC24RS_V2", 24, 448, 4),
    ),
    "NCv3": (
        ("NC6S_V3", 6, 112, 1), ("NC12S_V3", 12, 224, 2), ("NC24S_V3", 24, 448, 4), ("NC24RS_V3", 24, 448, 4),
    ),
    "ND": (("ND6S", 6, 112, 1), ("ND12S", 12, 224, 2), ("ND24S", 24, 448, 4), ("ND24RS", 24, 448, 4)),
    "NV": (("NV6", 6, 56, 1), ("NV12", 12, 112, 2), ("NV24", 24, 224, 4)),
    "DS": (
        ("DS1", 1, 3.5, 0), ("DS2", 2, 7, 0), ("DS3", 4, 14, 0), ("DS4", 8, 28, 0),
        ("DS11", 2, 14, 0), ("DS12", 4, 28, 0), ("DS13", 8, 56, 0), ("DS14", 16, 112, 0),
    ),
    "DSv2": (
        ("DS1_V2", 1, 3.5, 0), ("DS2_V2", 2, 7, 0), ("DS3_V2", 4, 14, 0), ("DS4_V2", 8, 28, 0),
        ("DS5_V2", 16, 56, 0), ("DS11_V2", 2, 14, 0), ("DS12_V2", 4, 28, 0), ("DS13_V2", 8, 56, 0),
        ("DS14_V2", 16, 112, 0),
    ),
    "GS": (("GS1", 2, 28, 0), ("GS2", 4, 56, 0), ("GS3", 8, 112, 0), ("GS4", 16, 224, 0), ("GS5", 32, 448, 0)),
}  # fmt: skip
_PREMIUM_FAMILIES = frozenset({"DS", "DSv2", "GS"})


def _catalogue() -> dict[str, VmSize]:
    sizes = {}
    for family, rows in _AZURE.items():
        for suffix, cores, memory_gib, gpus in rows:
            name = f"STANDARD_{suffix}"
            for_clusters = family not in _PREMIUM_FAMILIES and suffix != "A0"
            sizes[name] = VmSize(name, cores, round(memory_gib * 1024), gpus, family, for_clusters)
    return sizes


#: Azure's sizes by upper-case name.
AZURE_SIZES: Mapping[str, VmSize] = _catalogue()

#: Family of sizes that describe a machine of the local engine.
LOCAL_FAMILY = "Local"


def local_sizes(cpus: int, memory_mib: int, gpus: int) -> dict[str, VmSize]:
    """Sizes that describe a machine with so many CPUs, MiB of memory and GPUs.

    ``LOCAL`` is the whole machine and ``LOCAL_HALF`` half of it; ``LOCAL_{n}CPU`` has n CPUs (powers of two) and no
    GPU, ``LOCAL_{n}GPU`` has n GPUs. A share of the CPUs or GPUs brings its share of the rest.
    """
    if cpus < 1 or memory_mib < 1 or gpus < 0:
        raise ValueError("a machine has at least one CPU, some memory and no fewer than zero GPUs")
    sizes: dict[str, VmSize] = {}

    def add(name: str, share_cpus: int, share_memory: int, share_gpus: int) -> None:
        sizes[name] = VmSize(name, max(1, share_cpus), max(1, share_memory), share_gpus, LOCAL_FAMILY)

    add("LOCAL", cpus, memory_mib, gpus)
    add("LOCAL_HALF", cpus // 2, memory_mib // 2, gpus // 2)
    count = 1
    while count <= cpus:
        add(f"LOCAL_{count}CPU", count, memory_mib * count // cpus, 0)
        count *= 2
    count = 1
    while count <= gpus:
        add(f"LOCAL_{count}GPU", cpus * count // gpus, memory_mib * count // gpus, count)
        count *= 2
    return sizes


def find_size(name: str, extra: Mapping[str, VmSize] | None = None) -> VmSize | None:
    """The size of this name (in any case), among ``extra`` (upper-case keys) and Azure's; None if there is none."""
    key = name.upper()
    return (extra or {}).get(key) or AZURE_SIZES.get(key)


def supported_sizes(extra: Mapping[str, VmSize] | None = None, *, for_clusters: bool = True) -> list[VmSize]:
    """The sizes that clusters (or, with ``for_clusters=False``, file servers) may have, by name."""
    merged = {**AZURE_SIZES, **(extra or {})}
    return [merged[name] for name in sorted(merged) if merged[name].for_clusters or not for_clusters]
