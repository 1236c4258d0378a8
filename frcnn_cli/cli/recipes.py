"""frcnn recipes: the values that training and detection use."""

from __future__ import annotations

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console

_EXAMPLES = {"list": "", "show": "paper", "diff": "paper modern"}


@click.command(cls=Command)
@click.argument("action", type=click.Choice(list(_EXAMPLES)), default="list")
@click.argument("names", nargs=-1, metavar="[RECIPE [RECIPE]]")
@options.as_json
@click.pass_obj
def command(console: Console, action: str, names: tuple[str, ...], as_json: bool) -> None:
    """List the recipes, show one, or show the differences between two.

    A recipe is "paper", "modern" or a TOML file. Your own file states what it starts from (base = "modern") and then
    the values that it changes.

    \b
    frcnn recipes
    frcnn recipes show paper
    frcnn recipes diff paper modern
    frcnn recipes diff modern my.toml --json
    """
    from frcnn_cli.recipes.files import BUILT_IN
    from frcnn_cli.recipes.recipe import Recipe, differences

    example = _EXAMPLES[action]
    if len(names) != len(example.split()):
        raise click.UsageError(f"{action} takes {len(example.split())} recipe(s): frcnn recipes {action} {example}")
    if action == "list":
        console.json(BUILT_IN) if as_json else console.table(("recipe", "content"), list(BUILT_IN.items()), left=2)
        return
    recipes = [Recipe.load(name) for name in names]
    if action == "show":
        console.json(recipes[0].to_dict()) if as_json else console.result(recipes[0].to_toml().rstrip())
        return
    found = differences(*recipes)
    if as_json:
        console.json({key: dict(zip(names, pair, strict=True)) for key, pair in found.items()})
    elif found:
        console.table(("value", *names), [(key, *map(_written, pair)) for key, pair in found.items()])
    else:
        console.result("the recipes are equal")


def _written(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
