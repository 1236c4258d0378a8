"""What the commands do, from Python: arrays in, arrays out, no file between the stages.

    python examples/library.py MODEL IMAGE

MODEL is a run's folder, for example frcnn-demo/run; IMAGE any picture.
"""

import sys

from frcnn_cli import Detector, propose, read_image


def main(model: str, path: str) -> None:
    detector = Detector.load(model)
    image = read_image(path)

    # Stage by stage ...
    boxes = propose(image, detector.source(), detector.limits).boxes  # float32 [N, 4]
    features, scale = detector.feature_map(image)  # [1, C, h, w]
    scores = detector.score(features, boxes, scale, image.height, image.width)
    print(f"{len(boxes)} proposals, a map of {features.shape[2]} x {features.shape[3]} cells")
    print(f"probabilities {list(scores.probabilities.shape)}, boxes {list(scores.boxes.shape)}")

    # ... or in one go.
    found = detector.detect(image)
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        if score >= 0.5:
            print(f"{detector.config.classes[label]:12} {score:.3f}  {' '.join(f'{v:.1f}' for v in box)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
