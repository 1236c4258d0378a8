"""Commands and Python blocks of a Markdown document, in their order."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """kind: "command" (one line) or "python" (a block)."""

    kind: str
    text: str


def steps_of(path: Path) -> list[Step]:
    """The steps of a document: lines that begin with `frcnn ` in indented or fenced blocks, and Python blocks.

    A block after the comment `<!-- not run: ... -->` is skipped.
    """
    steps: list[Step] = []
    fence, skipped, block = "", False, []
    for line in path.read_text().splitlines():
        if fence:
            if line == "```":
                if fence == "python" and not skipped:
                    steps.append(Step("python", "\n".join(block)))
                fence, skipped, block = "", False, []
            elif fence == "sh" and not skipped:
                steps += _command(line)
            else:
                block.append(line)
        elif line.startswith("```"):
            fence = line[3:] or "text"
        elif line.startswith("<!-- not run:"):
            skipped = True
        elif line.startswith("    "):
            if not skipped:
                steps += _command(line.strip())
        elif line.strip():
            skipped = False
    return steps


def _command(line: str) -> list[Step]:
    text = re.sub(r"\s+#.*", "", line)
    return [Step("command", text)] if text.startswith("frcnn ") else []


def words_of(command: str) -> list[str]:
    """The arguments after `frcnn`."""
    return shlex.split(command)[1:]
