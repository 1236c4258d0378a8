"""Options: typed, documented, checked before any work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.options import parse_settings
from frcnn_cli.proposals.hook import ProposalSource, option
from tests.proposals.sources_for_tests import Good, Needy


def test_text_becomes_typed_values():
    source = Good.configured(
        {"share": "0.25", "count": "7", "kind": "b", "sizes": "4,5,6", "deep": "yes", "where": "/tmp/x"}
    )
    assert source == Good(0.25, 7, "b", (4, 5, 6), True, Path("/tmp/x"))


def test_what_is_recorded_configures_the_same_source():
    source = Good(0.3, 2, "b", (9,), True, Path("a/b"))
    described = source.described()
    assert described["name"] == "good"
    assert described["options"]["sizes"] == [9]
    assert Good.configured(described["options"]) == source
    assert Good.configured(Good().described()["options"]) == Good()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nope": "1"}, "no option 'nope'.*share, count"),
        ({"share": "x"}, "share must be a number, not 'x'"),
        ({"share": "0.05"}, "too small .minimum 0.1"),
        ({"share": "2"}, "too large .maximum 1"),
        ({"share": "nan"}, "share must be a number"),
        ({"count": "1.5"}, "count must be a whole number"),
        ({"count": True}, "must be a whole number"),
        ({"kind": "c"}, "kind must be a or b, not 'c'"),
        ({"sizes": "1,,2"}, "must be a list of whole numbers"),
        ({"sizes": ""}, "must be a list of whole numbers"),
        ({"sizes": "1,-2"}, "too small"),
        ({"deep": "perhaps"}, "must be true or false"),
    ],
)
def test_bad_values_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Good.configured(settings)


def test_a_required_option_and_a_check_of_the_sources_own():
    with pytest.raises(UsageError, match="needs path: a file.*--set path=VALUE"):
        Needy.configured({})
    with pytest.raises(UsageError, match="bad will not do"):
        Needy.configured({"path": "bad"})


def test_every_field_must_be_documented():
    @dataclass(frozen=True)
    class Silent(ProposalSource):
        name = "silent"
        version = "1"
        step: int = 3

        def propose(self, image): ...

    with pytest.raises(TypeError, match="'step' of Silent must be declared with option"):
        Silent.options()


def test_settings_are_pairs():
    assert parse_settings(("a=1", "b=x=y")) == {"a": "1", "b": "x=y"}
    for pairs, words in ((("a",), "not KEY=VALUE"), (("=1",), "not KEY=VALUE"), (("a=1", "a=2"), "given twice")):
        with pytest.raises(UsageError, match=words):
            parse_settings(pairs)


def test_choices_may_be_numbers():
    @dataclass(frozen=True)
    class Levels(ProposalSource):
        name = "levels"
        version = "1"
        level: Literal[1, 2, 3] = option(1, help="how far")

        def propose(self, image): ...

    assert Levels.configured({"level": "2"}).level == Levels.configured({"level": 2}).level == 2
    with pytest.raises(UsageError, match="level must be 1, 2 or 3"):
        Levels.configured({"level": "4"})


def test_options_are_shown_with_type_and_default():
    shown = {opt.name: (opt.type_name, opt.default_text) for opt in Good.options()}
    assert shown["sizes"] == ("int,...", "1,2")
    assert shown["kind"] == ("a | b", "a")
    assert shown["where"] == ("path | none", "none")
    assert {opt.name: opt.default_text for opt in Needy.options()} == {"path": "required"}
    assert option(3, help="x").metadata["help"] == "x"
