"""Where networks run."""

from __future__ import annotations

import torch

from frcnn_cli.errors import FrcnnError


def choose_device(name: str) -> torch.device:
    """ "auto" is the GPU if there is one. Raises FrcnnError for a device that is absent or unknown."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise FrcnnError(f"{name!r} is not a device that frcnn runs on", "Write auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FrcnnError(f"there is no GPU {name!r} on this machine", "Write --device cpu, or --device auto")
    return device
