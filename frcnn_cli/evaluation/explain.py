"""Why each object was missed, and what each false detection is.

Every missed object is attributed to the first step at which it was lost, and every false detection to its cause. The
counts sum to all missed objects and to all false detections. The cost of a kind is the gain in mAP without it: if those
objects did not have to be found, or those detections were not made.

The reason for a missed object is the first of these questions that is answered with "no":
  1. Does a proposal cover it (IoU >= threshold), or a refined box that covers no other object of its class better?
     Otherwise: "no proposal".
  2. Of the refined boxes that cover it, or else of the proposals that do, does the one with the highest probability of
     its class exceed the score threshold? Otherwise: "background" or "wrong class", by the highest probability of
     that box; or "cut", if the highest is that of its class and still below the threshold.
  3. Does a refined box cover it? Otherwise: "loose box".
  4. Is such a box with a sufficient score among the best of its class, which NMS considers? Otherwise: "cut".
  5. Was such a box kept by NMS? Otherwise: "suppressed".
  6. Was it among the best of its image? Otherwise: "cut".

False detections (after Hoiem et al., ECCV 2012) are a "duplicate" of an object that was found; else, if they overlap an
object with IoU 0.1 or more, "localisation" (the object is of the same class) or "confusion" (of another); else
"background".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import Boxes, iou
from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.evaluation.matching import CORRECT, IGNORED, WRONG, Matches
from frcnn_cli.evaluation.voc import AVERAGES, Metric, mean

MISSED = ("no proposal", "background", "wrong class", "loose box", "suppressed", "cut")
FALSE = ("duplicate", "localisation", "confusion", "background")
_MIN_OVERLAP = 0.1  # Hoiem's minimum IoU of a detection that is related to an object


class Evidence(NamedTuple):
    """The proposals of one image, and which steps each box passed on the way to a detection.

    proposals: float32 [P, 4]. probabilities: float32 [P, K+1]. refined: float32 [P, K, 4].
    thresholds: [K], the score that detections of each class must exceed.
    ranked: bool [P, K], among the best boxes of their class, which NMS considers.
    kept: bool [P, K], not suppressed.
    final: bool [P, K], among the best of the image: a detection.
    """

    proposals: Boxes
    probabilities: NDArray[np.float32]
    refined: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    ranked: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    final: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Explanation(ArrayRecord):
    """missed: int64 [K, 6], objects by class and reason (`MISSED`). false: int64 [K, 4], false detections by class and
    cause (`FALSE`). found: int64 [K]. missed_cost, false_cost: the gain in mAP without each reason or cause."""

    missed: NDArray[np.int64]
    false: NDArray[np.int64]
    found: NDArray[np.int64]
    mean_ap: float
    missed_cost: tuple[float, ...]
    false_cost: tuple[float, ...]


def why_missed(at: int, truth: GroundTruth, evidence: Evidence, iou_threshold: float) -> int:
    """The index in `MISSED` of the reason why object `at` was missed."""
    label = int(truth.labels[at])
    same = np.flatnonzero(truth.labels == label)
    overlaps = iou(evidence.refined[:, label], truth.boxes[same])
    own = int(np.flatnonzero(same == at)[0])
    ends = (overlaps[:, own] >= iou_threshold) & (overlaps.argmax(axis=1) == own)
    begins = iou(evidence.proposals, truth.boxes[[at]])[:, 0] >= iou_threshold
    rows = np.flatnonzero(ends if ends.any() else begins)
    if not len(rows):
        return MISSED.index("no proposal")
    best = rows[evidence.probabilities[rows, label + 1].argmax()]
    if evidence.probabilities[best, label + 1] <= evidence.thresholds[label]:
        taken_for = int(evidence.probabilities[best].argmax())
        return MISSED.index({0: "background", label + 1: "cut"}.get(taken_for, "wrong class"))
    if not ends.any():
        return MISSED.index("loose box")
    sure = ends & (evidence.probabilities[:, label + 1] > evidence.thresholds[label])
    if (sure & evidence.kept[:, label]).any() or not (sure & evidence.ranked[:, label]).any():
        return MISSED.index("cut")
    return MISSED.index("suppressed")


def explain(
    matches: Matches,
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth],
    evidence: Mapping[str, Evidence],
    iou_threshold: float,
    metric: Metric,
) -> Explanation:
    """Attributes every missed object and every false detection.

    Args:
        matches: of these detections and objects. evidence: by image key.
    """
    num_classes = len(matches.to_find)
    hit = matches.outcomes == CORRECT
    found_objects = set(zip(matches.images[hit].tolist(), matches.objects[hit].tolist(), strict=True))
    missed = np.zeros((num_classes, len(MISSED)), np.int64)
    for i, key in enumerate(matches.keys):
        truth = ground_truth[key]
        for at in np.flatnonzero(~truth.difficult):
            if (i, int(at)) not in found_objects:
                missed[truth.labels[at], why_missed(int(at), truth, evidence[key], iou_threshold)] += 1
    kinds = np.full(len(matches.labels), -1, np.int64)
    for at in np.flatnonzero(matches.outcomes == WRONG):
        key = matches.keys[matches.images[at]]
        box = detections[key].boxes[matches.places[at]]
        kinds[at] = _what_false(int(matches.labels[at]), box, matches.overlaps[at], ground_truth[key], iou_threshold)
    false = np.zeros((num_classes, len(FALSE)), np.int64)
    np.add.at(false, (matches.labels[kinds >= 0], kinds[kinds >= 0]), 1)
    found = matches.to_find.sum(axis=1) - missed.sum(axis=1)
    nothing = np.zeros(len(kinds), bool)
    plain = _mean_ap(matches, metric, 0 * found, nothing)
    return Explanation(
        missed,
        false,
        found,
        plain,
        tuple(_mean_ap(matches, metric, missed[:, kind], nothing) - plain for kind in range(len(MISSED))),
        tuple(_mean_ap(matches, metric, 0 * found, kinds == kind) - plain for kind in range(len(FALSE))),
    )


def _what_false(label: int, box: NDArray[np.float32], overlap: float, truth: GroundTruth, threshold: float) -> int:
    if overlap >= threshold:
        return FALSE.index("duplicate")
    overlaps = iou(box[None], truth.boxes)[0]
    if not len(overlaps) or overlaps.max() < _MIN_OVERLAP:
        return FALSE.index("background")
    own = overlaps[truth.labels == label].max(initial=0.0)
    return FALSE.index("localisation" if own >= overlaps.max() else "confusion")


def _mean_ap(matches: Matches, metric: Metric, spared: NDArray[np.int64], unmade: NDArray[np.bool_]) -> float:
    """The mAP if `spared` objects per class did not have to be found, and the detections in `unmade` were not made."""
    aps = []
    for label, objects in enumerate(matches.to_find.sum(axis=1) - spared):
        own = matches.of_class(label)
        counted = (matches.outcomes[own] != IGNORED) & ~unmade[own]
        hits = np.cumsum(matches.outcomes[own][counted] == CORRECT)
        if objects > 0:
            aps.append(AVERAGES[metric](hits / objects, hits / np.arange(1, len(hits) + 1)))
    return mean(aps)
