"""The GPUs of this machine, found through NVML. None without the driver or without the ``gpu`` extra."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def list_gpus() -> tuple[str, ...]:
    """The UUID of each GPU, as CUDA_VISIBLE_DEVICES takes it."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()
    return tuple(uuid.decode() if isinstance(uuid, bytes) else str(uuid) for uuid in uuids)


def count_gpus() -> int:
    """How many GPUs nodes can be given."""
    return len(list_gpus())


def driver_is_loaded() -> bool:
    """Whether the kernel has NVIDIA's driver, whatever Python can see of it."""
    return Path("/proc/driver/nvidia/version").exists()
