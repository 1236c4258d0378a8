"""The stages of detection one by one, with arrays instead of files between them.

    python examples/library.py MODEL IMAGE

MODEL is the folder of a run, for example frcnn-demo/run.
"""

import sys

from frcnn_cli import Detector, propose, read_image


def main(model: str, path: str) -> None:
    detector = Detector.load(model)
    image = read_image(path)

    # Stage by stage ...
    boxes = propose(image, detector.source(), detector.limits).boxes  # float32 [N, 4]
    maps, scale = detector.feature_map(image)  # [1, C, h, w]
    scores = detector.score(maps, boxes, scale, image.height, image.width)
    print(f"{len(boxes)} proposals, a map of {maps.shape[2]} x {maps.shape[3]} cells")
    print(f"probabilities {list(scores.probabilities.shape)}, boxes {list(scores.boxes.shape)}")

    # ... or all at once.
    found = detector.detect(image)
    for name, score, box in zip(found.names, found.scores, found.boxes, strict=True):
        if score >= 0.5:
            print(f"{name:12} {score:.3f}  {' '.join(f'{v:.1f}' for v in box)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
