"""COCO's average precision and recall, computed by hotcoco, which gives the same results as pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.evaluation.voc import LabelledImages, checked

_AREAS = {
    "all": (0.0, 1e10),
    "s": (0.0, 32.0**2),
    "m": (32.0**2, 96.0**2),
    "l": (96.0**2, 1e10),
}
_RECALLS = 101  # COCO's precision is a mean over recall 0, 0.01, ..., 1


@dataclass(frozen=True)
class CocoRules:
    """What COCO's evaluation averages over.

    iou_thresholds: minimum IoU of a correct detection, in ascending order.
    areas: named ranges of the areas of the objects in square pixels; the range of all areas is always added.
    max_detections: numbers of detections per image and class, in ascending order; AP uses the last.

    Raises:
        ValueError: no threshold, or one that is 0 or less, or above 1; a range or number that is not positive.
    """

    iou_thresholds: tuple[float, ...] = tuple((np.arange(50, 100, 5) / 100).tolist())
    areas: Mapping[str, tuple[float, float]] = field(
        default_factory=lambda: {name: limits for name, limits in _AREAS.items() if name != "all"}
    )
    max_detections: tuple[int, ...] = (1, 10, 100)

    def __post_init__(self) -> None:
        ious, counts = self.iou_thresholds, self.max_detections
        if not ious or list(ious) != sorted(set(ious)) or not all(0 < iou <= 1 for iou in ious):
            raise ValueError("IoU thresholds must be numbers above 0 and at most 1, in ascending order")
        if not counts or list(counts) != sorted(set(counts)) or counts[0] < 1:
            raise ValueError("maximum numbers of detections must be whole numbers from 1, in ascending order")
        if any(not 0 <= low < high for low, high in self.areas.values()):
            raise ValueError("an area range must be two non-negative numbers, the smaller first")
        if any(not name or name[0].isdigit() or name == "all" for name in self.areas):
            raise ValueError("the name of an area must not begin with a digit, nor be all")


@dataclass(frozen=True, eq=False)
class CocoResult(ArrayRecord):
    """COCO's numbers; NaN where there are no objects.

    Axes: T IoU thresholds, R recalls, K classes, A areas (the first is that of all objects), M maximum numbers of
    detections.

    precision: float64 [T, R, K, A, M]. recall: float64 [T, K, A, M].
    """

    rules: CocoRules
    classes: tuple[str, ...]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers over all classes; with COCO's own rules the twelve: AP, AP50, AP75, APs, APm, APl, AR1, AR10,
        AR100, ARs, ARm, ARl."""
        return self._numbers(slice(None))

    def of_class(self, name: str) -> dict[str, float]:
        """The same numbers for one class."""
        at = self.classes.index(name)
        return self._numbers(slice(at, at + 1))

    def _numbers(self, classes: slice) -> dict[str, float]:
        precision, recall = self.precision[:, :, classes], self.recall[:, classes]
        found = {"AP": _mean(precision[..., 0, -1])}
        for percent in (50, 75):
            at = np.flatnonzero(np.isclose(self.rules.iou_thresholds, percent / 100))
            if len(at):
                found[f"AP{percent}"] = _mean(precision[at[0], ..., 0, -1])
        for i, name in enumerate(self.rules.areas, 1):
            found[f"AP{name}"] = _mean(precision[..., i, -1])
        for i, count in enumerate(self.rules.max_detections):
            found[f"AR{count}"] = _mean(recall[..., 0, i])
        for i, name in enumerate(self.rules.areas, 1):
            found[f"AR{name}"] = _mean(recall[..., i, -1])
        return found


def evaluate_coco(
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth] | LabelledImages,
    classes: Sequence[str] | None = None,
    rules: CocoRules | None = None,
    missing: Literal["error", "empty"] = "error",
) -> CocoResult:
    """Average precision and recall by COCO's rules.

        print(evaluate_coco(detect_images(data, detector), data).numbers["AP"])

    Objects marked as crowd or difficult need not be found, and detections inside them do not count.

    Args:
        detections: as in `evaluate`.
        ground_truth: as in `evaluate`.
        classes: as in `evaluate`.
        missing: as in `evaluate`.
        rules: by default those of COCO.

    Raises:
        ValueError, KeyError, TypeError: as `evaluate`.
    """
    import hotcoco

    ground_truth, classes = checked(detections, ground_truth, classes, missing)
    rules = rules or CocoRules()
    keys = sorted(ground_truth)
    numbers = {key: i for i, key in enumerate(keys, 1)}
    truths = [ground_truth[key] for key in keys]
    found = {numbers[key]: detections[key] for key in keys if key in detections}
    shape = (len(rules.iou_thresholds), _RECALLS, len(classes), 1 + len(rules.areas), len(rules.max_detections))
    if not sum(map(len, truths)):
        return CocoResult(rules, tuple(classes), np.full(shape, np.nan), np.full((shape[0], *shape[2:]), np.nan))
    wanted = hotcoco.COCO.from_arrays(
        [{"id": number, "file_name": key} for key, number in numbers.items()],
        [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
        np.repeat([numbers[key] for key in keys], [len(truth) for truth in truths]),
        np.concatenate([truth.labels for truth in truths]) + 1,
        _sizes(np.concatenate([truth.boxes for truth in truths])),
        area=np.concatenate([truth.areas for truth in truths]),
        iscrowd=np.concatenate([truth.crowd | truth.difficult for truth in truths]).astype(np.int64),
    )
    evaluation = hotcoco.COCOeval(wanted, wanted.load_res(_rows(found)), "bbox")
    evaluation.params = _parameters(evaluation.params, rules)
    evaluation.evaluate()
    evaluation.accumulate()
    tables: Mapping[str, Any] = evaluation.eval or {}
    precision, recall = (np.asarray(tables[name], np.float64) for name in ("precision", "recall"))
    return CocoResult(rules, tuple(classes), _known(precision), _known(recall))


def _parameters(params: Any, rules: CocoRules) -> Any:
    params.iou_thrs = list(rules.iou_thresholds)
    params.area_rng = [list(limits) for limits in (_AREAS["all"], *rules.areas.values())]
    params.area_rng_lbl = ["all", *rules.areas]
    params.max_dets = list(rules.max_detections)
    return params


def _rows(found: Mapping[int, Detections]) -> NDArray[np.float64]:
    """The detections by number of their image, as [D, 7]: image, x, y, w, h, score, class. Written in place, because a
    million detections take 56 MB."""
    rows = np.empty((sum(map(len, found.values())), 7))
    at = 0
    for number, one in found.items():
        part = rows[at : at + len(one)]
        part[:, 0] = number
        part[:, 1:3] = one.boxes[:, :2]
        part[:, 3:5] = one.boxes[:, 2:]
        part[:, 3:5] -= part[:, 1:3]
        part[:, 5] = one.scores
        part[:, 6] = one.labels + 1
        at += len(one)
    return rows


def _sizes(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """From corners to x y w h."""
    exact = boxes.astype(np.float64)
    return np.concatenate([exact[:, :2], exact[:, 2:] - exact[:, :2]], axis=1)


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN for COCO's -1, which means that there are no objects."""
    return np.where(values < 0, np.nan, values)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
