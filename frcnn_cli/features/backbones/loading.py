"""Weights of a classification network: drawn, downloaded by torchvision, or out of a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from frcnn_cli.errors import FileFormatError, FrcnnError, explain_os_error

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Weights:
    """name: of the backbone, for messages. which: "imagenet", "none", or the path of a state dict."""

    name: str
    which: str

    def into(self, make: Callable[..., N]) -> N:
        """The network that `make(weights=...)` builds, as torchvision's do, with these weights.

        Raises:
            FrcnnError: the download failed, or the file is not the state dict of this network.
        """
        if self.which == "none":
            return make(weights=None)
        if self.which == "imagenet":
            try:
                with redirect_stdout(sys.stderr):  # where the download is announced: stdout is for results
                    return make(weights="IMAGENET1K_V1")
            except (OSError, RuntimeError) as error:
                raise FrcnnError(
                    f"the ImageNet weights of {self.name} could not be downloaded ({error})",
                    "Fetch them elsewhere and name the file with --weights FILE, or start from nothing with"
                    " --weights none",
                ) from None
        net = make(weights=None)
        net.load_state_dict(self._checked(net.state_dict()))
        return net

    def _checked(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        path = Path(self.which)
        state = _read_state_dict(path)
        whose = f"Name a state dict of this {self.name} (torchvision's, if it has one)"
        for key, value in own.items():
            if key not in state:
                raise FileFormatError(f"{path} has no tensor {key!r} of {self.name}", whose)
            if state[key].shape != value.shape:
                have, want = list(state[key].shape), list(value.shape)
                raise FileFormatError(f"{path}: {key} is {have}, not {want}", whose)
        extra = sorted(set(state) - set(own))
        if extra:
            raise FileFormatError(f"{path} has a tensor {extra[0]!r} that {self.name} lacks", whose)
        return state


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FileFormatError(
            f"{path} is not a file of weights ({reason})", "Name a state dict (.pth, .safetensors)"
        ) from None
    tensors = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not tensors:
        raise FileFormatError(f"{path} is not a state dict", "Save it with torch.save(net.state_dict(), path)")
    return dict(state)
