"""Weights of a new run from those of another model: every layer whose shape fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frcnn_cli.core.errors import UsageError, listed
from frcnn_cli.detector.detector import Detector
from frcnn_cli.training.roi_targets import TargetStatistics

_BY_CLASS = {"head.cls_score": 1, "head.bbox_pred": 4}  # layers with rows per class, and how many


@dataclass(frozen=True)
class Initialised:
    """What a new run took from a model.

    taken, total: numbers of tensors. fresh: layers that start from scratch. classes: classes whose outputs were taken.
    """

    taken: int
    total: int
    fresh: tuple[str, ...]
    classes: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.taken} of {self.total} tensors taken"
        if self.classes:
            text += f"; outputs taken for the background and {listed(self.classes)}"
        return text + (f"; from scratch: {', '.join(self.fresh)}" if self.fresh else "; nothing from scratch")


@torch.no_grad()
def initialise(detector: Detector, origin: Detector, statistics: TargetStatistics) -> Initialised:
    """Copies weights into `detector` from `origin`, in place. The two output layers take the rows of the background and
    of classes of the same name; the others start from scratch.

    Args:
        detector: a new detector, whose box layer predicts normalised deltas.
        origin: a finished detector, whose box layer predicts deltas as they are.
        statistics: of the targets of the new run.

    Raises:
        UsageError: the model is compressed, or no layer fits.
    """
    if origin.config.ranks:
        raise UsageError("--init names a compressed model", "Name the model that it was made from")
    new, old = detector.state_dict(), origin.state_dict()
    taken, fresh = 0, []
    for name, value in new.items():
        layer = name.rpartition(".")[0]
        if layer in _BY_CLASS:
            continue
        if name in old and old[name].shape == value.shape:
            value.copy_(old[name])
            taken += 1
        elif layer not in fresh:
            fresh.append(layer)
    if not taken:
        raise UsageError(
            "--init names a model with another network: no layer fits", "Leave network values as they are in that model"
        )
    shared = [name for name in detector.classes if name in origin.classes]
    missing = [name for name in detector.classes if name not in origin.classes]
    for layer, per_class in _BY_CLASS.items():
        parts = [f"{layer}.weight", f"{layer}.bias"]
        fits = new[parts[0]].shape[1] == old[parts[0]].shape[1]
        tensors = ([new[part] for part in parts], [old[part] for part in parts])
        if fits and _copy_rows(detector, origin, *tensors, per_class, statistics):
            taken += 2
            fresh += [f"{layer} of {listed(missing)}"] if missing else []
        else:
            fresh.append(layer)
    return Initialised(taken, len(new), tuple(fresh), tuple(shared))


def _copy_rows(
    detector: Detector,
    origin: Detector,
    new: Sequence[Tensor],
    old: Sequence[Tensor],
    per_class: int,
    statistics: TargetStatistics,
) -> bool:
    """Copies the rows of the background and of shared classes of one layer: weights and biases. False if one detector
    has one box for all classes, and the other one per class."""
    agnostic = [made.config.network.class_agnostic and per_class == 4 for made in (detector, origin)]
    if agnostic[0] != agnostic[1]:
        return False
    pairs = [(0, 0)]
    if not agnostic[0]:
        shared = [name for name in detector.classes if name in origin.classes]
        pairs += [(detector.classes.index(name) + 1, origin.classes.index(name) + 1) for name in shared]
    for to, of in pairs:
        target, source = (slice(k * per_class, (k + 1) * per_class) for k in (to, of))
        weight, bias = (one[source].clone() for one in old)
        if per_class == 4:
            weight, bias = _normalised(weight, bias, statistics, 1 if agnostic[0] else to)
        new[0][target], new[1][target] = weight, bias
    return True


def _normalised(weight: Tensor, bias: Tensor, statistics: TargetStatistics, label: int) -> tuple[Tensor, Tensor]:
    """The inverse of `RoIHead.fold_normalisation`, for one class."""
    mean, std = (torch.from_numpy(one[label]).to(weight) for one in statistics)
    return weight / std[:, None], (bias - mean) / std
