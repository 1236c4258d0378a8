"""Weights of a classification network: random, downloaded by torchvision, or from a file."""

from __future__ import annotations

import errno
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError, explain_os_error
from frcnn_cli.core.files import check_regular

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Weights:
    """Which weights a network gets.

    name: the backbone, under torchvision's name if torchvision has it.
    which: "imagenet", "none" (random), "later" (random, and replaced by the caller), or the path of a state dict.
    """

    name: str
    which: str

    def into(self, net: N) -> N:
        """Loads the weights into a network with random weights; returns the network.

        Raises:
            UsageError: torchvision has no weights for this network. FrcnnError: the download failed, or the file is
                not the state dict of this network.
        """
        if self.which == "imagenet":
            net.load_state_dict(self._downloaded())
        elif self.which not in ("none", "later"):
            net.load_state_dict(self._from_file(net.state_dict()))
        return net

    def _downloaded(self) -> dict[str, Tensor]:
        from torchvision.models import get_model_weights  # imported late: torchvision imports torch._dynamo

        try:
            weights = get_model_weights(self.name)["IMAGENET1K_V1"]
        except ValueError:
            raise UsageError(
                f"there are no weights of {self.name} to download",
                "Name a state dict with --weights FILE, or train from scratch with --weights none",
            ) from None
        try:
            with redirect_stdout(sys.stderr):  # the download is announced on stdout, which is for results
                return dict(weights.get_state_dict(progress=True, check_hash=True))
        except (OSError, RuntimeError) as error:
            raise FrcnnError(
                f"the ImageNet weights of {self.name} could not be downloaded ({error})",
                "Download them elsewhere and name the file with --weights FILE, or train from scratch with"
                " --weights none",
            ) from None

    def _from_file(self, expected: dict[str, Tensor]) -> dict[str, Tensor]:
        path = Path(self.which)
        if path.is_dir():
            fix = f"Name a file; if it is the folder of a run, write --init {path} (train) or --model {path}"
            raise UsageError(f"{path} is a folder, not a state dict of {self.name}", fix)
        state = read_state_dict(path)
        if any(key.startswith("head.") for key in state) and not any(key.startswith("head.") for key in expected):
            fix = f"Write --init {path} (train), or --model {path}"
            raise UsageError(f"{path} is a model of frcnn, not a state dict of {self.name}", fix)
        fix = f"Name a state dict of {self.name} (torchvision's, if it has one)"
        for key, value in expected.items():
            if key not in state:
                raise FileFormatError(f"{path} has no tensor {key!r} of {self.name}", fix)
            if state[key].shape != value.shape:
                have, want = list(state[key].shape), list(value.shape)
                raise FileFormatError(f"{path}: {key} is {have}, not {want}", fix)
            if not bool(torch.isfinite(state[key]).all()):
                raise FileFormatError(f"{path}: {key} holds numbers that are not finite", fix)
        extra = sorted(set(state) - set(expected))
        if extra:
            raise FileFormatError(f"{path} has a tensor {extra[0]!r} that {self.name} lacks", fix)
        return state


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict (`.pth`, read with `weights_only`, or `.safetensors`).

    Raises:
        FileFormatError: the file is something else. FrcnnError: it cannot be read.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch.load, for a file that was truncated
            raise FileFormatError(f"{path} is not a file of weights, or is truncated", "Copy it again") from None
        raise explain_os_error(error, path) from None
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        if "Weights only load failed" in str(error):
            what = f"{path} is not a file of weights (it holds a whole network, or is no file of PyTorch)"
            raise FileFormatError(what, "Save a state dict: torch.save(net.state_dict(), path)") from None
        reason = " ".join(str(error).split())[:120]
        raise FileFormatError(
            f"{path} is not a file of weights ({reason})", "Name a state dict (.pth, .safetensors)"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # as torchvision's reference scripts save it, beside the optimiser
    tensors = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not tensors:
        raise FileFormatError(f"{path} is not a state dict", "Save it with torch.save(net.state_dict(), path)")
    return dict(state)
