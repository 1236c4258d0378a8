"""The devices that networks run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frcnn_cli.core.errors import FrcnnError

if TYPE_CHECKING:
    import torch


def check_device_name(name: str) -> None:
    """Refuses, without importing torch, a name that cannot be a device. Raises FrcnnError."""
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (":" in name and (kind == "auto" or not index.isdigit())):
        raise FrcnnError(f"{name!r} is not a device that frcnn runs on", "Write auto, cpu, cuda or cuda:N")


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU if there is one, else the CPU.

    Raises:
        FrcnnError: the device is unknown, or this machine does not have it.
    """
    import torch

    check_device_name(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FrcnnError(f"there is no GPU {name!r} on this machine", "Use --device cpu, or --device auto")
    return device
