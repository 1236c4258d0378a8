"""Why each object was missed, and what each false detection is.

Every object that no detection found is put down to the first thing on its way that went wrong, and every false
detection to what it stands on. The counts sum to all that is missed, and to all that is false. What a kind costs is the
mAP that there would be without it: those objects need not be found, or those detections are not made.

A missed object goes through these questions, about the boxes that could have found it; the first "no" is the reason.
  1. Does any proposal cover it (IoU >= threshold), or end up on it as the network moves it (and on no neighbour of its
     class more)?        "no proposal"
  2. Of the boxes that end up on it, or else of those that began there, is the one most probably of its class above the
     threshold of detections?        What the network holds it for instead: "background", "wrong class", or "cut" where
     it is of its class and yet below the threshold
  3. Does any box end up on it?        "loose box"
  4. Was a sure one among the best of its class, which suppression looks at?        "cut"
  5. Was such a one kept by suppression?        "suppressed"
  6. Was it among the best of its image?        "cut"
False detections (after Hoiem et al., ECCV 2012): "duplicate" of an object that was found; else by the object of any
class that it overlaps most, with IoU 0.1 or more: "localisation" of its own class, "confusion" with another; else
"background".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import Detections, GroundTruth
from frcnn_cli.boxes import Boxes, iou
from frcnn_cli.evaluation.matching import CORRECT, IGNORED, WRONG, Matches
from frcnn_cli.evaluation.voc import AVERAGES, Metric, mean

MISSED = ("no proposal", "background", "wrong class", "loose box", "suppressed", "cut")
FALSE = ("duplicate", "localisation", "confusion", "background")
_TOUCHES = 0.1  # Hoiem's least overlap of a detection that has to do with an object


class Evidence(NamedTuple):
    """What became of the proposals of one image.

    proposals: float32 [P, 4]. probabilities: float32 [P, K+1]. refined: float32 [P, K, 4].
    thresholds: [K], the score that a detection of a class must exceed.
    ranked: bool [P, K], among the best of their class that suppression looked at.
    kept: bool [P, K], left by suppression.
    final: bool [P, K], and among the best of the image.
    """

    proposals: Boxes
    probabilities: NDArray[np.float32]
    refined: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    ranked: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    final: NDArray[np.bool_]


@dataclass(frozen=True)
class Explanation:
    """missed: int64 [K, 6], objects by class and kind (`MISSED`); false: int64 [K, 4] (`FALSE`); found: int64 [K].
    missed_cost, false_cost: what mAP would be gained without each kind."""

    missed: NDArray[np.int64]
    false: NDArray[np.int64]
    found: NDArray[np.int64]
    mean_ap: float
    missed_cost: tuple[float, ...]
    false_cost: tuple[float, ...]


def why_missed(at: int, truth: GroundTruth, evidence: Evidence, iou_threshold: float) -> int:
    """Which of `MISSED` object `at` is, which no detection found."""
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
    """Puts down every miss and every false detection.

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
    if not len(overlaps) or overlaps.max() < _TOUCHES:
        return FALSE.index("background")
    own = overlaps[truth.labels == label].max(initial=0.0)
    return FALSE.index("localisation" if own >= overlaps.max() else "confusion")


def _mean_ap(matches: Matches, metric: Metric, spared: NDArray[np.int64], unmade: NDArray[np.bool_]) -> float:
    """mAP where `spared` objects of each class need not be found, and some detections are not made."""
    aps = []
    for label, objects in enumerate(matches.to_find.sum(axis=1) - spared):
        mine = matches.of_class(label)
        counted = (matches.outcomes[mine] != IGNORED) & ~unmade[mine]
        hits = np.cumsum(matches.outcomes[mine][counted] == CORRECT)
        if objects > 0:
            aps.append(AVERAGES[metric](hits / objects, hits / np.arange(1, len(hits) + 1)))
    return mean(aps)
