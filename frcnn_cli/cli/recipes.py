"""frcnn recipes: what training and detection go by."""

from __future__ import annotations

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("action", type=click.Choice(["show", "diff"]))
@click.argument("names", nargs=-1, metavar="RECIPE [RECIPE]")
@options.as_json
@click.pass_obj
def command(display: Display, action: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show a recipe, or what two of them do not share.

    A recipe is "paper", "modern" or a TOML file. A file of your own says what it starts from, base = "modern", and
    below that what it changes.

    \b
    frcnn recipes show paper
    frcnn recipes diff paper modern
    frcnn recipes diff modern my.toml --json
    """
    from frcnn_cli.recipes.reading import load
    from frcnn_cli.recipes.recipe import differences

    if len(names) != (1 if action == "show" else 2):
        wanted = "one recipe" if action == "show" else "two recipes"
        raise click.UsageError(f"{action} takes {wanted}, e.g. paper{' modern' if action == 'diff' else ''}.")
    recipes = [load(name) for name in names]
    if action == "show":
        display.json(recipes[0].to_dict()) if as_json else display.result(recipes[0].to_toml().rstrip())
        return
    found = differences(*recipes)
    if as_json:
        display.json({key: dict(zip(names, pair, strict=True)) for key, pair in found.items()})
    elif found:
        display.table(("value", *names), [(key, *map(_written, pair)) for key, pair in found.items()])
    else:
        display.result("no value differs")


def _written(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
