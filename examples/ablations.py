"""The paper's ablation studies (sections 4 and 5) on your own data: each is a recipe with one value changed.

    python examples/ablations.py voc:my-data runs/studies --studies losses,layers \\
        --recipe modern --set network.backbone=squeezenet1_0 --set solver.epochs=6

Trains on --split, evaluates on --test-split, and prints a table in the layout of the paper's. Everything is kept in the
work folder: proposals and runs that exist are used again, and an interrupted run continues. For other options, choose
another folder.

    losses      classification loss only; multi-task, boxes not refined; stage-wise; multi-task   (table 6)
    layers      training from fc6, from a middle layer, from the backbone's default layer         (table 5)
    svm         linear SVMs instead of the softmax                                                (table 8)
    scales      five image scales instead of one, in training and in detection                    (table 7)
    proposals   numbers of proposals per image, in training and in detection                      (figure 3)
    dense       the boxes of a sliding window instead of selective search                         (section 5.5)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from frcnn_cli import Detector, FrcnnError, Recipe, evaluate, get_source, load_dataset, propose_images
from frcnn_cli.core.options import parse_settings
from frcnn_cli.core.run_files import STATE_FILE
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.pairing import pair_detections
from frcnn_cli.inference.features import extract_features
from frcnn_cli.inference.nms import suppress
from frcnn_cli.inference.score import score_proposals
from frcnn_cli.training.resume import continued
from frcnn_cli.training.settings import RunSettings
from frcnn_cli.training.train import run_training

FIVE_SCALES = [480, 576, 688, 864, 1200]
COUNTS = (50, 200, 1000, 2000)
STUDIES = ("losses", "layers", "svm", "scales", "proposals", "dense")

Rows = list[tuple[str, float]]


class Study:
    """The runs on one data set, each with its changes to the recipe and its mAP."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work = args, Path(args.work)
        self.recipe = Recipe.load(args.recipe).changed(parse_settings(args.set))
        self.test: Dataset = load_dataset(args.data, args.test_split, args.bad_boxes)
        for split in (args.split, args.test_split):
            self.propose(split)

    def propose(self, split: str, source: str = "selective-search", name: str = "props") -> None:
        path = self.work / f"{name}-{split}.h5"
        if not path.exists():
            print(f"proposals of {split}: {path}", file=sys.stderr)
            data = load_dataset(self.args.data, split, self.args.bad_boxes)
            propose_images(data, path, get_source(source))

    def mean_ap(self, name: str, changes: dict[str, object], props: str = "props", run: str = "") -> float:
        """Trains `run` (by default: `name`) if it is not finished yet, and evaluates it, perhaps with other values of
        the recipe's `detection` section."""
        detection = {key: value for key, value in changes.items() if key.startswith("detection.")}
        folder = self.work / (run or name)
        self.train(folder, {key: value for key, value in changes.items() if key not in detection}, props)
        detector = Detector.load(folder)
        detector.set_recipe_values(**{key.replace(".", "__"): value for key, value in detection.items()})
        proposals = self.work / f"{props}-{self.args.test_split}.h5"
        feats, scores, dets = (self.work / f"{name}-{stage}.h5" for stage in ("feats", "scores", "dets"))
        extract_features(self.test, detector, feats, force=True)
        score_proposals(feats, proposals, detector, scores, force=True)
        suppress(scores, dets, force=True)
        feats.unlink()
        scores.unlink()
        paired = pair_detections(self.test, dets, self.args.bad_boxes)
        return evaluate(paired.detections, paired.dataset).mean_ap

    def train(self, folder: Path, changes: dict[str, object], props: str) -> None:
        args, recipe = self.args, self.recipe.changed(changes)
        settings = RunSettings(
            data=args.data,
            split=args.split,
            props=str(self.work / f"{props}-{args.split}.h5"),
            weights=args.weights,
            bad_boxes=args.bad_boxes,
        )
        resume = (folder / STATE_FILE).exists()
        if resume:
            continued(folder, {}, lambda own: recipe)  # raises if the run was begun with another recipe
        else:
            print(f"training: {folder}", file=sys.stderr)
        run_training(folder, settings, recipe, resume=resume)

    def losses(self) -> Rows:
        unrefined = {"detection.refine": False}
        return [
            ("classification loss only", self.mean_ap("class-only", {"loss.box_weight": 0.0, **unrefined})),
            ("multi-task, no box regression at test", self.mean_ap("unrefined", unrefined, run="base")),
            ("stage-wise", self.mean_ap("stage-wise", {"solver.stages": "sequential"})),
            ("multi-task", self.mean_ap("base", {})),
        ]

    def layers(self) -> Rows:
        names = ["fc6", *([self.args.train_from] if self.args.train_from else [])]
        rows = [(f"from {name}", self.mean_ap(f"from-{name}", {"network.train_from": name})) for name in names]
        return [*rows, ("from the backbone's default", self.mean_ap("base", {}))]

    def svm(self) -> Rows:
        return [("SVM", self.mean_ap("svm", {"network.classifier": "svm"})), ("softmax", self.mean_ap("base", {}))]

    def scales(self) -> Rows:
        sides = {"images.train_short_sides": FIVE_SCALES, "images.test_short_sides": FIVE_SCALES}
        five = {**sides, "images.long_side": 2000}
        return [("one scale", self.mean_ap("base", {})), ("five scales", self.mean_ap("scales", five))]

    def proposals(self) -> Rows:
        return [
            (f"{n} proposals", self.mean_ap(f"proposals-{n}", {"sampling.proposals": n, "detection.proposals": n}))
            for n in COUNTS
        ]

    def dense(self) -> Rows:
        for split in (self.args.split, self.args.test_split):
            self.propose(split, "sliding-window", "dense")
        dense = self.mean_ap("dense", {}, props="dense")
        return [("selective search", self.mean_ap("base", {})), ("dense boxes", dense)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("data", help="data set, as in frcnn train --data")
    parser.add_argument("work", help="folder for all files")
    parser.add_argument("--studies", default="losses", help=f"separated by commas: {','.join(STUDIES)}")
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--train-from", default="", help="a middle layer for the study of layers, e.g. conv3_1")
    parser.add_argument("--recipe", default="paper", help="paper, modern, or a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--weights", default="imagenet", help="of the backbone, as in frcnn train --weights")
    parser.add_argument("--bad-boxes", default="error", choices=["error", "fix"])
    args = parser.parse_args()
    unknown = set(args.studies.split(",")) - set(STUDIES)
    if unknown:
        parser.error(f"there is no study {sorted(unknown)[0]!r}; the studies are {', '.join(STUDIES)}")
    try:
        study = Study(args)
        for name in args.studies.split(","):
            rows = getattr(study, name)()
            print(f"\n| {name} | {' | '.join(title for title, _ in rows)} |")
            print("|---" * (len(rows) + 1) + "|")
            print(f"| mAP | {' | '.join(f'{100 * value:.1f}' for _, value in rows)} |", flush=True)
    except FrcnnError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
