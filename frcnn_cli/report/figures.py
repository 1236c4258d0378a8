"""Matplotlib figures without a display, and their encoding."""

from __future__ import annotations

import io
from typing import Any


def new_figure(width: float, height: float) -> Any:
    """An empty figure of that size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encoded(figure: Any, ending: str) -> bytes:
    """The figure as .png, .svg or .pdf."""
    content = io.BytesIO()
    figure.savefig(content, format=ending.lower().removeprefix("."), dpi=140)
    return content.getvalue()


def plain(text: str) -> str:
    """Text in which Matplotlib finds no formula."""
    return text.replace("$", r"\$")


def label(text: str) -> str:
    """The text as the label of a legend. It begins with a space, because Matplotlib hides labels that begin with an
    underscore."""
    return " " + plain(text)
