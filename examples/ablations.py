"""The paper's studies (sections 4 and 5) on a data set of yours: each is a recipe with one value changed.

    python examples/ablations.py voc:my-data runs/studies --studies losses,layers,svm,proposals,dense \\
        -- --backbone squeezenet1_0 --weights imagenet --epochs 6

Trains on --split, tests on --test-split, and prints a table in the shape of the paper's. What follows -- goes to
`frcnn train`. Proposals are made if they are not there, and a run that is there goes on, or is done: with the same
options, for others name another folder.

    losses      classification alone; multi-task, boxes as proposed; stage after stage; multi-task   (table 6)
    layers      training from fc6, from the middle, from the backbone's own first layer              (table 5)
    svm         linear SVMs against the softmax                                                      (table 8)
    scales      five image sizes against one, in training and in detection                           (table 7)
    proposals   numbers of boxes an image, trained and tested on                                     (figure 3)
    dense       a sliding window's boxes instead of selective search's                               (section 5.5)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from frcnn_cli.cli import main

FIVE_SCALES = [480, 576, 688, 864, 1200]
COUNTS = (50, 200, 1000, 2000)
STUDIES = ("losses", "layers", "svm", "scales", "proposals", "dense")


class Study:
    """Runs of one data set, each with its settings and its mAP."""

    def __init__(self, args: argparse.Namespace, training: Sequence[str]) -> None:
        self.args, self.training = args, list(training)
        self.work: Path = args.work

    def props(self, split: str, *source: str, name: str = "props") -> Path:
        path = self.work / f"{name}-{split}.h5"
        if not path.exists():
            frcnn("proposals", self.args.data, "--split", split, "-o", path, *source)
        return path

    def mean_ap(
        self, name: str, *settings: str, props: str = "props", run: str = "", score: Sequence[str] = ()
    ) -> float:
        """Trains `run` (default: `name`) unless it is there, and evaluates it.

        Args:
            settings: KEY=VALUE of the recipe. props: whose files of boxes. score: options of frcnn score.
        """
        args, folder = self.args, self.work / (run or name)
        train, test = (self.work / f"{props}-{split}.h5" for split in (args.split, args.test_split))
        changes = [word for pair in settings for word in ("--set", pair)]
        where = ("--data", args.data, "--split", args.split, "--props", train, "-o", folder)
        begun = ("--resume",) if (folder / "state.safetensors").exists() else ()  # which refuses other settings
        frcnn("train", *begun, *where, *self.training, *changes)
        files = {stage: self.work / f"{name}-{stage}.h5" for stage in ("feats", "scores", "dets")}
        frcnn("features", args.data, "--split", args.test_split, "--model", folder, "-o", files["feats"], "--force")
        frcnn("score", files["feats"], "--props", test, "--model", folder, "-o", files["scores"], *score, "--force")
        frcnn("nms", files["scores"], "-o", files["dets"], "--force")
        told = frcnn(
            "eval", files["dets"], "--data", args.data, "--split", args.test_split, *_mending(self.training), "--json"
        )
        for stage in ("feats", "scores"):
            files[stage].unlink()
        return float(json.loads(told)["map"] or 0.0)

    def losses(self) -> list[tuple[str, float]]:
        return [
            ("classification loss only", self.mean_ap("class-only", "loss.box_weight=0", score=["--no-refine"])),
            ("multi-task, no box regression at test", self.mean_ap("unrefined", run="base", score=["--no-refine"])),
            ("stage-wise", self.mean_ap("stage-wise", 'solver.stages="sequential"')),
            ("multi-task", self.mean_ap("base")),
        ]

    def layers(self) -> list[tuple[str, float]]:
        rows = [("from fc6", self.mean_ap("from-fc6", "network.train_from=fc6"))]
        if self.args.train_from:
            name = self.args.train_from
            rows.append((f"from {name}", self.mean_ap(f"from-{name}", f"network.train_from={name}")))
        return [*rows, ("from the backbone's own first", self.mean_ap("base"))]

    def svm(self) -> list[tuple[str, float]]:
        return [("SVM", self.mean_ap("svm", "network.classifier=svm")), ("softmax", self.mean_ap("base"))]

    def scales(self) -> list[tuple[str, float]]:
        five = (f"images.train_short_sides={FIVE_SCALES}", f"images.test_short_sides={FIVE_SCALES}")
        five = (*five, "images.long_side=2000")
        return [("one scale", self.mean_ap("base")), ("five scales", self.mean_ap("scales", *five))]

    def proposals(self) -> list[tuple[str, float]]:
        pairs = ((n, (f"sampling.proposals={n}", f"detection.proposals={n}")) for n in COUNTS)
        return [(f"{n} boxes", self.mean_ap(f"boxes-{n}", *settings)) for n, settings in pairs]

    def dense(self) -> list[tuple[str, float]]:
        for split in (self.args.split, self.args.test_split):
            self.props(split, "--source", "sliding-window", name="dense")
        return [("selective search", self.mean_ap("base")), ("dense boxes", self.mean_ap("dense", props="dense"))]


def frcnn(*words: object) -> str:
    """Runs a command as typed, in this process; its results. Its progress goes to the terminal."""
    print("$ frcnn", *map(str, words), file=sys.stderr)
    results = io.StringIO()
    try:
        with contextlib.redirect_stdout(results):
            main.main([*map(str, words)], prog_name="frcnn")
    except SystemExit as ended:
        if ended.code:
            raise
    return results.getvalue()


def _mending(training: Sequence[str]) -> list[str]:
    return ["--bad-boxes", "fix"] if "fix" in training else []


def studies() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], usage="%(prog)s DATA WORK [options] -- [options of frcnn train]"
    )
    parser.add_argument("data", help="as frcnn train --data has it")
    parser.add_argument("work", type=Path, help="folder for everything")
    parser.add_argument("--studies", default="losses", help=f"with commas between them: {','.join(STUDIES)}")
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--train-from", default="", help="a layer in the middle, e.g. conv3_1, for the study of layers")
    typed = sys.argv[1:]
    end = typed.index("--") if "--" in typed else len(typed)
    args, training = parser.parse_args(typed[:end]), typed[end + 1 :]
    unknown = set(args.studies.split(",")) - set(STUDIES)
    if unknown:
        parser.error(f"no study {sorted(unknown)[0]!r}: there are {', '.join(STUDIES)}")
    study = Study(args, training)
    for split in (args.split, args.test_split):
        study.props(split)
    for name in args.studies.split(","):
        rows = getattr(study, name)()
        print(f"\n| {name} | {' | '.join(title for title, _ in rows)} |")
        print("|---" * (len(rows) + 1) + "|")
        print(f"| mAP | {' | '.join(f'{100 * value:.1f}' for _, value in rows)} |", flush=True)


if __name__ == "__main__":
    studies()
