"""Recipes: complete, checked, and the same however they are written."""

import tomllib
from contextlib import suppress
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.core.options import parse_settings
from frcnn_cli.recipes.files import BUILT_IN
from frcnn_cli.recipes.recipe import Recipe, differences, recipe_options
from tests.conftest import run_frcnn


def test_the_paper_recipe_prints_every_value_with_its_meaning():
    text = Recipe.load("paper").to_toml()
    written = {f"{section}.{name}" for section, values in tomllib.loads(text).items() for name in values}
    assert written == set(recipe_options())
    assert all(f"# {opt.help}\n" in text for opt in recipe_options().values())
    assert Recipe.load("paper") == Recipe()


def test_modern_starts_from_the_paper_and_repeats_nothing():
    text = resources.files("frcnn_cli.recipes").joinpath("modern.toml").read_text()
    values = tomllib.loads(text)
    assert values.pop("base") == "paper"
    written = {f"{section}.{name}" for section, values in values.items() for name in values}
    assert written == set(differences(Recipe.load("paper"), Recipe.load("modern")))


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_printed_is_read_as_the_same(tmp_path, name):
    path = tmp_path / "r.toml"
    path.write_text(Recipe.load(name).to_toml())
    assert Recipe.load(str(path)) == Recipe.load(name)
    assert Recipe.from_dict(Recipe.load(name).to_dict()) == Recipe.load(name)


def test_a_file_says_what_it_starts_from(tmp_path):
    (tmp_path / "a.toml").write_text('base = "modern"\n[solver]\nepochs = 3\n')
    (tmp_path / "b.toml").write_text(f'base = "{tmp_path / "a.toml"}"\n[loss]\nbeta = 0.5\n')
    assert differences(Recipe.load("modern"), Recipe.load(str(tmp_path / "b.toml"))) == {
        "solver.epochs": (Recipe.load("modern").solver.epochs, 3.0),
        "loss.beta": (Recipe.load("modern").loss.beta, 0.5),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[solver]\nepoch = 3", "no value 'solver.epoch'; did you mean solver.epochs"),
        ("[solver]\nepochs = 'many'", "solver.epochs must be a number, not 'many'"),
        ("[solver]\nepochs = nan", "must be a number"),
        ("[solver]\nepochs = -1", "solver.epochs=-1 is too small"),
        ("[solver]\nlearning_rate = -1", "solver.learning_rate=-1 must be greater than 0"),
        ("[solver]\nstep_at = 1.5", "solver.step_at=1.5 is too large (maximum 1)"),
        ("[targets]\nmean = [0, 0, 0, 1e9]", "targets.mean=1e+09 is too large (maximum 100)"),
        ("[solver]\nschedule = 'line'", "must be step or cosine"),
        ("[solver]\nwarmup = 1.5", "must be a whole number"),
        ("[images]\nflip = 1", "must be true or false"),
        ("[images]\ntrain_short_sides = [480, 'x']", "must be a list of whole numbers"),
        ("[sampling]\nbackground_iou = [0.5, 0.1]", "is empty"),
        ("[sampling]\nbackground_iou = [0.5]", "must be a list of 2 numbers"),
        ("[sampling]\nrois = 1", "at least one RoI per image"),
        ("[targets]\nstd = [0.1, 0.1, 0.2, 0.0]", "targets.std=0 must be greater than 0"),
        ("solver = 3", "'solver' is outside any section"),
        ("[solver", "is not TOML"),
        ("base = 7", "base is 7"),
        ("x = " + 20_000 * "[", "is not TOML"),
        ("[solver]\nlearning_rate = 1" + 400 * "0", "must be a number"),
        ("[solver]\nseed = 20000000000000", "solver.seed"),
        ("[solver]\nseed = " + 5000 * "9", "is not TOML"),
        ("base = 'other.toml'", "other.toml'"),
    ],
)
def test_recipes_that_make_no_sense_are_said(tmp_path, text, words):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        Recipe.load(str(tmp_path / "r.toml"))
    assert words in str(caught.value)


def test_a_base_lies_beside_its_file_and_is_named_where_it_is_wrong(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "base.toml").write_text("[loss]\nbeta = 0.5\n")
    (tmp_path / "deep/top.toml").write_text('base = "../base.toml"\n')
    assert Recipe.load(str(tmp_path / "deep/top.toml")).loss.beta == 0.5
    (tmp_path / "base.toml").write_text("[loss]\nbeta = -1\n")
    with pytest.raises(UsageError, match=r"base\.toml: loss\.beta=-1 must be greater than 0") as caught:
        Recipe.load(str(tmp_path / "deep/top.toml"))
    assert "top.toml" not in str(caught.value)


def test_a_recipe_that_starts_from_itself(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(f'base = "{path}"')
    with pytest.raises(UsageError, match="is based on itself"):
        Recipe.load(str(path))


def test_recipes_that_cannot_be_read(tmp_path):
    with pytest.raises(FrcnnError, match="did you mean paper"):
        Recipe.load("papr")
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FrcnnError, match="not UTF-8"):
        Recipe.load(str(tmp_path / "r.toml"))
    (tmp_path / "r.toml").write_bytes(b" " * (2 << 20))
    with pytest.raises(FrcnnError, match="larger than 1 MB"):
        Recipe.load(str(tmp_path / "r.toml"))


def test_values_as_typed():
    values = parse_settings(["solver.epochs=8", "network.pooling=align", "images.train_short_sides=[480, 600]"])
    recipe = Recipe().changed(values)
    assert (recipe.solver.epochs, recipe.network.pooling) == (8.0, "align")
    assert recipe.short_sides == (480, 600)
    assert Recipe().short_sides == (600,)
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        parse_settings(["solver.epochs"])
    assert parse_settings([f"solver.seed={'9' * 5000}"]) == {"solver.seed": "9" * 5000}


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.one_of(st.floats(), st.text()))
)


@given(st.dictionaries(st.sampled_from(sorted(recipe_options())), _VALUES, max_size=3))
def test_any_value_is_taken_or_refused(values):
    with suppress(UsageError):
        recipe = Recipe().changed(values)
        assert Recipe.from_dict(recipe.to_dict()) == recipe


class TestCommand:
    def test_list(self):
        shown = run_frcnn("recipes")
        assert shown.out == run_frcnn("recipes", "list").out
        assert all(f" {name} " in shown.out for name in BUILT_IN)
        assert set(run_frcnn("recipes", "list", "--json").json) == set(BUILT_IN)
        assert run_frcnn("recipes", "list", "paper").code == 2

    def test_show(self):
        assert tomllib.loads(run_frcnn("recipes", "show", "modern").out) == tomllib.loads(
            Recipe.load("modern").to_toml()
        )
        assert run_frcnn("recipes", "show", "paper", "--json").json == Recipe.load("paper").to_dict()

    def test_diff(self):
        shown = run_frcnn("recipes", "diff", "paper", "modern")
        for key, pair in differences(Recipe.load("paper"), Recipe.load("modern")).items():
            (line,) = [line for line in shown.out.splitlines() if f" {key} " in line]
            assert all(str(part) in line for value in pair for part in (value if isinstance(value, tuple) else [value]))
        found = run_frcnn("recipes", "diff", "paper", "modern", "--json").json
        assert set(found) == set(differences(Recipe.load("paper"), Recipe.load("modern")))
        assert "the recipes are equal" in run_frcnn("recipes", "diff", "paper", "paper").out
        assert run_frcnn("recipes", "diff", "paper").code == 2

    def test_the_recipe_of_a_training_as_it_would_be(self):
        words = ("train", "--recipe", "modern", "--lr", "0.5", "--set", "loss.beta=0.25", "--show-config")
        wanted = Recipe.load("modern").changed({"solver.learning_rate": 0.5, "loss.beta": 0.25})
        assert run_frcnn(*words).out.strip() == wanted.to_toml().strip()
        assert run_frcnn(*words, "--json").json == wanted.to_dict()
        assert run_frcnn("train", "--recipe", "nope", "--show-config").code == 2
        # Neither is sensible without the other.
        both = ("--batch-images", "200", "--set", "sampling.rois=400", "--show-config")
        assert run_frcnn("train", *both).code == 0
        assert run_frcnn("train", "--set", "solver.lr=1", "--show-config").code == 2
        assert run_frcnn("train", "--set", "network.backbone=vgg99", "--show-config").code == 2
        assert run_frcnn("train", "--set", "loss.beta=1", "--set", "loss.beta=2", "--show-config").code == 2
