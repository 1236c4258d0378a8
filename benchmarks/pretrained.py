"""Pretrained detectors against torchvision's own code, on the same weights, image to detections, in one run.

    python benchmarks/pretrained.py [--models NAME,...] [--rounds 7] [--seeded] [--image FILE]

Without --seeded, torchvision's weights are downloaded. With it, seeded weights that behave like trained ones take their
place: speed does not depend on the values. Both sides take turns; figures are medians, in milliseconds. "proposals" is
from image to the boxes of the region proposal network. The last table shows where the time of ours goes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models import detection

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from frcnn_cli import __version__, read_image
from frcnn_cli.core.image import Image
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.pretrained.models import PRETRAINED
from frcnn_cli.detector.pretrained.weights import read_pretrained
from frcnn_cli.roi.levels import as_tuple
from frcnn_cli.system.facts import collected, has_bfloat16, machine
from tests.detector.seeded import picture, published, seeded_state, theirs

NAMES = ("fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn")


def medians(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each function; they take turns, after a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if i:
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: float(np.median(times)) for name, times in taken.items()}


def pair(name: str, seeded: bool) -> tuple[Callable[[], Detector], Any]:
    """How our detector is loaded, and torchvision's, with the same weights."""
    if not seeded:
        weights = getattr(detection, PRETRAINED[name].enum).COCO_V1
        return lambda: Detector.load(name), getattr(detection, name)(weights=weights).eval()
    state = seeded_state(name)
    path = Path(tempfile.mkdtemp()) / "seeded.pth"
    torch.save(published(state, name), path)
    device = torch.device("cpu")
    return lambda: Detector.of_stored(read_pretrained(name, path), device), theirs(name, state)


def compare(name: str, image: Image, rounds: int, seeded: bool) -> tuple[str, str]:
    """A row of the table of speeds, and one of the table of parts."""
    load, model = pair(name, seeded)
    ours = load()
    tensor = torch.from_numpy(np.array(image.pixels)).permute(2, 0, 1).float() / 255
    source = ours.source()

    def their_proposals() -> object:
        images, _ = model.transform([tensor])
        return model.rpn(images, model.backbone(images.tensors))

    functions: dict[str, Callable[[], object]] = {
        "torchvision": lambda: model([tensor]),
        "ours": lambda: ours.detect(image),
        "their proposals": their_proposals,
        "our proposals": lambda: source.propose(image),
    }
    if has_bfloat16():
        half = load().to_precision("bfloat16")
        functions["bfloat16"] = lambda: half.detect(image)
    with torch.inference_mode():
        found = medians(functions, rounds)
        parts = _parts(ours, image, rounds)
    whole, mine = found["torchvision"], found["ours"]
    low = f"{found['bfloat16']:.0f} | {whole / found['bfloat16']:.2f}" if "bfloat16" in found else "- | -"
    proposals = f"{found['their proposals']:.0f} | {found['our proposals']:.0f}"
    ratio = found["their proposals"] / found["our proposals"]
    speed = f"| {name} | {whole:.0f} | {mine:.0f} | {whole / mine:.2f} | {low} | {proposals} | {ratio:.2f} |"
    shares = " | ".join(f"{value:.0f}" for value in parts.values())
    rest = mine - sum(parts.values())
    needed = max(0.0, mine - whole / 2)
    return speed, f"| {name} | {shares} | {max(rest, 0):.0f} | {needed:.0f} |"


def _parts(ours: Detector, image: Image, rounds: int) -> dict[str, float]:
    """Milliseconds of transform, conv layers, region proposal network and head."""
    (transform,) = ours.transforms
    pixels, scale = transform(image.pixels)
    maps = ours.features(pixels[None])
    boxes = ours.propose(image, ours.source(), maps, scale)
    assert ours.rpn is not None
    network = ours.rpn
    return medians(
        {
            "transform": lambda: transform(image.pixels),
            "conv layers": lambda: ours.features(pixels[None]),
            "region proposal network": lambda: network(as_tuple(maps)),
            "head": lambda: ours.detect_in_maps(maps, boxes, scale, image.height, image.width),
        },
        rounds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeded", action="store_true")
    parser.add_argument("--image", help="a photograph; by default a picture of 640 x 480 pixels is made")
    options = parser.parse_args()
    image = read_image(options.image) if options.image else Image.from_array(picture(5, 480, 640), "made")
    weights = "seeded" if options.seeded else "torchvision's"
    processor = collected(machine())["processor"]
    print(f"frcnn {__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, {processor}")
    print(f"{weights} weights, an image of {image.width} x {image.height} pixels, milliseconds\n")
    rows = [compare(name, image, options.rounds, options.seeded) for name in options.models.split(",")]
    print("| | torchvision | ours | ratio | bfloat16 | ratio | its proposals | our proposals | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(*(speed for speed, _ in rows), sep="\n")
    print("\n| ours | transform | conv layers | region proposal network | head | rest | to save for a ratio of 2 |")
    print("|---|---|---|---|---|---|---|")
    print(*(parts for _, parts in rows), sep="\n")


if __name__ == "__main__":
    main()
