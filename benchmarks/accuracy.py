"""Detection quality against torchvision's parts, in one run on the same images, boxes and epochs.

    python benchmarks/accuracy.py DATA [--epochs 3] [--seeds 3] [--images N]

DATA holds bccd/ and weights/squeezenet1_0_tv.pth. Both are trained on BCCD's train split with the modern recipe and
evaluated on val with our evaluation. Equal are the proposals (our selective search), backbone, weights, cell size,
image size, mini-batch size, sampling, box targets, optimiser, clipping and schedule. The peer is what a user would
build: torchvision's `RoIHeads` with `MultiScaleRoIAlign`, `TwoMLPHead` and `FastRCNNPredictor`, unchanged. Different
are therefore: its smooth L1 becomes linear at 1/9, its RoI align does not correct for the network's cell offset,
images are mirrored at random (ours: each once in two passes), and the order of the images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.boxes import flip_horizontally
from frcnn_cli.core.decoding import read_ref
from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.pairing import ProposedSample
from frcnn_cli.detector.config import NO_PROPOSALS, image_transform
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.features.backbones import build
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.system.memory import keep_freed_memory
from frcnn_cli.training.inputs import DecodedImages
from frcnn_cli.training.optimisation import make_optimiser
from frcnn_cli.training.schedule import rate_at
from frcnn_cli.training.trainer import Trainer
from frcnn_cli.training.training_set import TrainingSet
from frcnn_cli.training.validation import Validation


class Peer(nn.Module):
    """Fast R-CNN built from torchvision's parts."""

    def __init__(self, weights: Path, classes: int, recipe: Recipe) -> None:
        super().__init__()
        backbone = build("squeezenet1_0", weights=weights, fine=recipe.network.fine)
        self.features = backbone.conv
        self.features[: backbone.frozen].requires_grad_(False)
        self.heads = RoIHeads(
            MultiScaleRoIAlign(["0"], 7, 2),
            TwoMLPHead(512 * 7 * 7, 1024),
            FastRCNNPredictor(1024, classes + 1),
            *(0.5, 0.5, recipe.sampling.rois // recipe.sampling.images, recipe.sampling.foreground_fraction),
            *(None, recipe.detection.min_score, recipe.detection.iou, recipe.detection.max_per_image),
        )

    def forward(
        self, images: Tensor, boxes: list[Tensor], targets: list[dict[str, Tensor]] | None, size: tuple[int, int]
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        maps = {"0": self.features(images)}
        found: tuple[list[dict[str, Tensor]], dict[str, Tensor]] = self.heads(
            maps, boxes, [size] * len(images), targets
        )
        return found


def peer_map(
    images: list[ProposedSample], val: list[ProposedSample], recipe: Recipe, data: Path, classes: tuple[str, ...]
) -> float:
    torch.manual_seed(recipe.solver.seed)
    rng = np.random.default_rng(recipe.solver.seed)
    transform = image_transform(recipe)
    peer = Peer(data / "weights/squeezenet1_0_tv.pth", len(classes), recipe)
    solver = recipe.solver
    trained = [p for p in peer.parameters() if p.requires_grad]
    sgd = make_optimiser(peer, solver)
    total, size = recipe.iterations(len(images)), recipe.sampling.images
    order: list[int] = []
    peer.train()
    for iteration in range(total):
        for group in sgd.param_groups:
            group["lr"] = group["rate_factor"] * rate_at(iteration, total, solver)
        while len(order) < size:
            order += rng.permutation(len(images)).tolist()
        chosen, order = order[:size], order[size:]
        shown, boxes, targets = [], [], []
        for i in chosen:
            image, picture = images[i], read_ref(images[i].ref)
            flip = rng.random() < 0.5
            pixels, scale = transform(np.ascontiguousarray(picture.pixels[:, ::-1]) if flip else picture.pixels)
            both = [image.proposals, image.truth.boxes]
            both = [flip_horizontally(b, picture.width) for b in both] if flip else both
            shown.append(pixels)
            boxes.append(torch.from_numpy(both[0] * np.float32(scale)))
            targets.append(
                {
                    "boxes": torch.from_numpy(both[1] * np.float32(scale)),
                    "labels": torch.from_numpy(image.truth.labels + 1),
                }
            )
        height, width = (max(p.shape[axis] for p in shown) for axis in (1, 2))
        padded = torch.stack([nn.functional.pad(p, (0, width - p.shape[2], 0, height - p.shape[1])) for p in shown])
        _, losses = peer(padded, boxes, targets, (height, width))
        sgd.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        if solver.clip_norm:
            nn.utils.clip_grad_norm_(trained, solver.clip_norm)
        sgd.step()
    peer.eval()
    found, truths = {}, {}
    with torch.inference_mode():
        for image in val:
            pixels, scale = transform(read_ref(image.ref).pixels)
            boxes = [torch.from_numpy(image.proposals * np.float32(scale))]
            [result], _ = peer(pixels[None], boxes, None, (pixels.shape[1], pixels.shape[2]))
            corners = (result["boxes"] / scale).numpy()
            found[image.ref.key] = Detections(corners, result["scores"].numpy(), result["labels"].numpy() - 1)
            truths[image.ref.key] = image.truth
    return evaluate(found, truths, classes).mean_ap


def our_map(
    images: list[ProposedSample], val: list[ProposedSample], recipe: Recipe, data: Path, classes: tuple[str, ...]
) -> float:
    training_set = TrainingSet(images, classes, NO_PROPOSALS, DecodedImages(read_ref, image_transform(recipe)), "")
    with tempfile.TemporaryDirectory() as folder:
        weights = data / "weights/squeezenet1_0_tv.pth"
        run = Trainer.begin(Path(folder), training_set, recipe, weights, {}, torch.device("cpu"))
        for _ in run.run():
            pass
        return Validation(val).mean_ap(run.finished())


def split_of(data: Path, split: str, most: int) -> tuple[list[ProposedSample], tuple[str, ...]]:
    dataset = load_dataset(f"voc:{data / 'bccd'}", split, "fix")
    source = SelectiveSearch(preset="quality", k=(50,))
    images = [ProposedSample(s.ref, s.truth, propose(read_ref(s.ref), source).boxes) for s in dataset.samples[:most]]
    return images, dataset.classes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000, help="maximum per split, for a quick test")
    args = parser.parse_args()
    keep_freed_memory()
    images, classes = split_of(args.data, "train", args.images)
    val, _ = split_of(args.data, "val", args.images)
    base = Recipe.load("modern").changed({"network.backbone": "squeezenet1_0", "solver.epochs": args.epochs})
    print(f"BCCD: {args.epochs:g} epochs of {len(images)} images of train, mAP on {len(val)} of val\n")
    print("| seed | ours | minutes | torchvision's parts | minutes |")
    print("|---|---|---|---|---|")
    reached: list[list[float]] = [[], []]
    for seed in range(args.seeds):
        recipe = base.changed({"solver.seed": seed})
        cells = [str(seed)]
        for values, side in zip(reached, (our_map, peer_map), strict=True):
            began = time.perf_counter()
            values.append(side(images, val, recipe, args.data, classes))
            cells += [f"{values[-1]:.3f}", f"{(time.perf_counter() - began) / 60:.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"| mean | {statistics.mean(reached[0]):.3f} | | {statistics.mean(reached[1]):.3f} | |")


if __name__ == "__main__":
    main()
