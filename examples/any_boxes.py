"""One detector's head over boxes of many sources: its own region proposal network, selective search, edge boxes,
sliding windows, and mixes of these.

    python examples/any_boxes.py DATA [--model MODEL] [--split NAME] [--images N]

DATA is a labelled data set, for example coco:instances_val2017.json:val2017; MODEL is a pretrained detector (the
smallest by default), a run or a model file. AR is the average recall of the boxes themselves; AP and AP50 are COCO's,
of the detections. Sources that are not installed, or that the model lacks, are skipped.
"""

import argparse
import time

from frcnn_cli import Detector, FrcnnError, evaluate_coco, get_source, load_dataset, read_image, recall
from frcnn_cli.proposals.propose import propose

SOURCES = {
    "its own region proposal network": None,
    "selective search, fast": {"selective-search": {}},
    "selective search, quality": {"selective-search": {"preset": "quality"}},
    "edge boxes": {"edge-boxes": {}},
    "sliding windows": {"sliding-window": {}},
    "selective search, fast + edge boxes": {"selective-search": {}, "edge-boxes": {}},
    "region proposal network + selective search, fast": {"own": {}, "selective-search": {}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="coco")
    parser.add_argument("--split")
    parser.add_argument("--images", type=int, help="use only the first N images")
    options = parser.parse_args()
    detector = Detector.load(options.model)
    data = load_dataset(options.data, options.split, bad_boxes="fix").for_model(detector.classes)
    samples = data.samples[: options.images]
    print(f"{options.model} on {len(samples)} images of {data.title}\n")
    print("| boxes from | boxes per image | AR at 100 | AR at 1,000 | AP | AP50 | seconds per image |")
    print("|---|---|---|---|---|---|---|")
    for name, parts in SOURCES.items():
        source = source_of(parts, detector)
        if source is None:
            continue
        boxes, found, began = {}, {}, time.perf_counter()
        for sample in samples:
            image = read_image(sample.ref.path)
            boxes[sample.ref.key] = propose(image, source, detector.limits).boxes
            found[sample.ref.key] = detector.detect(image, boxes[sample.ref.key])
        seconds = (time.perf_counter() - began) / len(samples)
        covered = recall([(boxes[s.ref.key], s.truth) for s in samples], (100, 1000))
        numbers = evaluate_coco(found, {s.ref.key: s.truth for s in samples}, detector.classes).numbers
        averages = " | ".join(f"{one.average_recall:.3f}" for one in covered)
        per_image = sum(map(len, boxes.values())) / len(boxes)
        print(
            f"| {name} | {per_image:.0f} | {averages} | {numbers['AP']:.3f} | {numbers['AP50']:.3f} | {seconds:.2f} |",
            flush=True,
        )


def source_of(parts, detector):
    """A source, or a mix; None if one of its parts is not there."""
    own = detector.source() if detector.rpn is not None else None
    try:
        if parts is None:
            return own
        made = [own if name == "own" else get_source(name, **options) for name, options in parts.items()]
    except FrcnnError:
        return None
    if None in made:
        return None
    return made[0] if len(made) == 1 else get_source("mix", sources=tuple(made))


if __name__ == "__main__":
    main()
