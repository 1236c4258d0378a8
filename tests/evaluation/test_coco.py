"""COCO's numbers: those that others published, and pycocotools' own on sets made up by chance."""

import contextlib
import io
import json

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.evaluation import instances
from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import from_xywh
from frcnn_cli.evaluation.coco import evaluate_coco
from frcnn_cli.evaluation.results import coco_results

# Four images of COCO val2014 (42, 73, 74, 133) with some of its objects, and of the fake results that its owners
# publish with their evaluation. torchmetrics (test of mAP, 0.8) states what pycocotools gives for them, three digits.
OBJECTS = {
    "42": [(4, 214.15, 41.29, 562.41, 285.07)],
    "73": [(2, 13.00, 22.75, 548.98, 632.42), (2, 1.66, 3.32, 270.26, 275.23)],
    "74": [
        (4, 61.87, 276.25, 358.29, 379.43),
        (1, 2.75, 3.66, 162.15, 316.06),
        (0, 295.55, 93.96, 313.97, 152.79),
        (0, 326.94, 97.05, 340.49, 122.98),
        (0, 356.62, 95.47, 372.33, 147.55),
        (0, 462.08, 105.09, 493.74, 146.99),
        (0, 277.11, 103.84, 292.44, 150.72),
    ],
    "133": [(5, 13.99, 2.87, 640.00, 421.52)],
}
FOUND = {
    "42": [(4, 0.236, 258.15, 41.29, 606.41, 285.07)],
    "73": [(3, 0.318, 61.00, 22.75, 565.00, 632.42), (2, 0.726, 12.66, 3.32, 281.26, 275.23)],
    "74": [
        (4, 0.546, 87.87, 276.25, 384.29, 379.43),
        (1, 0.3, 0.00, 3.66, 142.15, 316.06),
        (0, 0.407, 296.55, 93.96, 314.97, 152.79),
        (0, 0.611, 328.94, 97.05, 342.49, 122.98),
        (0, 0.335, 356.62, 95.47, 372.33, 147.55),
        (0, 0.805, 464.08, 105.09, 495.74, 146.99),
        (0, 0.953, 276.11, 103.84, 291.44, 150.72),
    ],
    "133": [(5, 0.699, 0.00, 2.87, 601.00, 421.52)],
}
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
STATED = (0.706, 0.901, 0.846, 0.689, 0.800, 0.701, 0.592, 0.716, 0.716, 0.767, 0.800, 0.700)
CLASSES = tuple("abcdef")


def test_the_published_figures():
    wanted = {k: GroundTruth(np.array(v)[:, 1:], np.array(v)[:, 0]) for k, v in OBJECTS.items()}
    found = {k: Detections(np.array(v)[:, 2:], np.array(v)[:, 1], np.array(v)[:, 0]) for k, v in FOUND.items()}
    numbers = evaluate_coco(found, wanted, CLASSES).numbers
    assert tuple(numbers) == NAMES
    assert tuple(round(value, 3) for value in numbers.values()) == STATED


def oracle(wanted, results):
    """pycocotools on the same layout."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = wanted
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 40), st.integers(1, 4))
def test_pycocotools_gives_the_same_to_the_sixth_digit(seed, images, objects, classes):
    rng = np.random.default_rng(seed)
    names = tuple("abcd"[:classes])
    wanted, found = {}, {}
    for i in range(images):
        count = int(rng.integers(0, objects + 1))
        corners = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corners, corners + rng.choice([10, 50, 200], (count, 2))], axis=1)
        labels = rng.integers(0, classes, count)
        crowd = rng.random(count) < 0.1
        wanted[f"{i:02d}"] = GroundTruth(boxes, labels, crowd, crowd, rng.uniform(50, 20_000, count))
        near = boxes[rng.integers(0, max(count, 1), 2 * count)] if count else boxes
        moved = near + rng.normal(0, 4, near.shape)
        levels = int(rng.choice([3, 1000]))  # three: most scores are equal to others, also to those of other images
        scores = rng.integers(0, levels, len(near)) / levels
        some = rng.integers(0, classes, len(near))
        found[f"{i:02d}"] = Detections(moved, scores, some)
    ids = {key: i for i, key in enumerate(sorted(wanted), 1)}
    results = coco_results(found, ids)
    assume(any(len(truth) for truth in wanted.values()) and results)
    expected = oracle(instances(wanted, ids, names), results)
    numbers = np.nan_to_num(list(evaluate_coco(found, wanted, names).numbers.values()), nan=-1)
    np.testing.assert_allclose(numbers, expected, atol=5e-7)


def test_nothing_to_find_and_nothing_found():
    nothing = GroundTruth(np.zeros((0, 4)), np.zeros(0))
    one = GroundTruth(np.array([[0, 0, 10, 10]]), np.array([0]))
    assert np.isnan(list(evaluate_coco({}, {"a": nothing}, ("x",), missing="empty").numbers.values())).all()
    numbers = evaluate_coco({}, {"a": one}, ("x",), missing="empty").numbers
    assert numbers["AP"] == 0
    assert np.isnan(numbers["APl"])


def test_the_owners_coco_files_of_toycats(shared_data):
    """The JSON that they give to COCO's tool, read by us and evaluated, beside pycocotools on it as it is."""
    folder = shared_data / "eval" / "toycats"
    wanted = json.loads((folder / "gts_coco_format/toy_example_coco.JSON").read_text())
    found = json.loads((folder / "dets_coco_format/coco_dets.json").read_text())["annotations"]
    results = [{name: d[name] for name in ("image_id", "category_id", "bbox", "score")} for d in found]
    keys = {image["id"]: image["file_name"] for image in wanted["images"]}
    categories = sorted({category["id"] for category in wanted["categories"]})

    def table(values):
        return np.array([v["bbox"] for v in values], float).reshape(-1, 4), [
            categories.index(v["category_id"]) for v in values
        ]

    truths, detections = {}, {}
    for number, key in keys.items():
        boxes, labels = table([a for a in wanted["annotations"] if a["image_id"] == number])
        areas = [a["area"] for a in wanted["annotations"] if a["image_id"] == number]
        truths[key] = GroundTruth(from_xywh(boxes), np.array(labels), areas=np.array(areas))
        mine = [d for d in results if d["image_id"] == number]
        boxes, labels = table(mine)
        detections[key] = Detections(from_xywh(boxes), np.array([d["score"] for d in mine]), np.array(labels))
    numbers = evaluate_coco(detections, truths, [str(c) for c in categories]).numbers
    # pycocotools takes an object's number 0 for none.
    for at, annotation in enumerate(wanted["annotations"], 1):
        annotation["id"] = at
    np.testing.assert_allclose(np.nan_to_num(list(numbers.values()), nan=-1), oracle(wanted, results), atol=5e-7)
