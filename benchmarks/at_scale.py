"""What 1e6, 1e8 and 1e9 images take: machines, hours and bytes, from the rates that `benchmarks/stages.py` measured.

    python benchmarks/stages.py voc:DATA/bccd --model RUN --json stages.json
    python benchmarks/at_scale.py stages.json [--machines 1,100,1000]

The only arithmetic is: hours = images / (images per second) / 3600 / machines, and bytes = images x bytes per image.
Shards divide images by a hash, so machines need nothing from each other, and rates add up as long as the storage of the
images keeps up; the last column is what it has to send.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

COUNTS = (10**6, 10**8, 10**9)


def of_bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if number < 1000 or unit == "PB":
            return f"{number:.3g} {unit}"
        number /= 1000
    return ""


def of_hours(hours: float) -> str:
    return f"{hours * 60:.2g} min" if hours < 1 else f"{hours:,.0f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def table(stages: list[dict], machines: list[int], counts: tuple[int, ...] = COUNTS) -> list[str]:
    """Lines of Markdown."""
    image_bytes = next(row["bytes_per_image"] for row in stages if row["images_per_s"] is None)
    lines = [
        "| images | stage | output | " + " | ".join(f"{n:,} machine{'s' if n > 1 else ''}" for n in machines)
        + f" | images read by {machines[-1]:,} |",
        "|---|---|---|" + "---|" * (len(machines) + 1),
    ]  # fmt: skip
    for count in counts:
        written = f"{count:.0e}".replace("e+0", "e")
        for row in stages:
            if row["images_per_s"] is None:
                size = of_bytes(count * row["bytes_per_image"])
                lines.append(f"| {written} | {row['stage']} | {size} |" + " |" * (len(machines) + 1))
                continue
            hours = [count / row["images_per_s"] / 3600 / n for n in machines]
            reads = row["stage"] not in ("score", "nms")
            sent = f"{of_bytes(row['images_per_s'] * machines[-1] * image_bytes)}/s" if reads else "-"
            cells = [
                written,
                row["stage"],
                of_bytes(count * row["bytes_per_image"]),
                *map(of_hours, hours),
                sent,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("measured", type=Path)
    parser.add_argument("--machines", default="1,100,1000")
    args = parser.parse_args()
    measured = json.loads(args.measured.read_text())
    machines = [int(number) for number in args.machines.split(",")]
    print(f"A machine: {measured['processor']}, {measured['cores']} cores, device {measured['device']}.\n")
    print("\n".join(table(measured["stages"], machines)))


if __name__ == "__main__":
    main()
