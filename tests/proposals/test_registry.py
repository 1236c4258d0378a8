"""Plugins: found, and a broken one never stops the rest."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from frcnn_cli.core.errors import UsageError
from frcnn_cli.proposals import registry as R
from frcnn_cli.proposals.hook import hookimpl
from frcnn_cli.system import plugins
from tests.proposals.sources_for_tests import Good


def plugin(name, answer):
    module = ModuleType(name)
    module.frcnn_proposal_sources = hookimpl(answer)
    sys.modules[name] = module
    return EntryPoint(name, name, "frcnn")


def raising(error):
    def hook():
        raise error

    return hook


@pytest.fixture
def loaded(monkeypatch):
    def load(*points):
        monkeypatch.setattr(plugins, "entry_points", lambda group: points)
        R.load_registry.cache_clear()
        return R.load_registry()

    yield load
    R.load_registry.cache_clear()


def test_built_in_sources_come_through_the_same_hook(loaded):
    registry = loaded()
    assert set(registry.sources) == {"selective-search", "opencv-selective-search", "file", "mix"}
    assert registry.failures == []
    assert R.DEFAULT_SOURCE in registry.sources


def test_broken_plugins_are_named_and_the_rest_work(loaded):
    registry = loaded(
        EntryPoint("absent", "no_such_module_at_all", "frcnn"),
        plugin("leaving", raising(SystemExit("bye"))),
        plugin("raising", raising(RuntimeError("no luck"))),
        plugin("nonsense", lambda: [int]),
        plugin("nothing", lambda: 3),
        plugin("good_plugin", lambda: [Good]),
        plugin("taken", lambda: [Good]),
    )
    assert registry.sources["good"].source is Good
    reasons = {failure.entry_point: failure.reason for failure in registry.failures}
    assert set(reasons) == {"absent", "leaving", "raising", "nonsense", "nothing", "taken"}
    assert "no_such_module_at_all" in reasons["absent"]
    assert "no luck" in reasons["raising"]
    assert "not a subclass" in reasons["nonsense"]
    assert "'good' is taken" in reasons["taken"]
    assert "opencv-selective-search" in registry.sources


def test_an_unknown_name_lists_what_there_is_and_what_failed(loaded):
    registry = loaded(EntryPoint("absent", "no_such_module_at_all", "frcnn"))
    with pytest.raises(
        UsageError, match="'nope'; plugin absent failed to load .*The sources are: selective-search, opencv"
    ):
        registry.get("nope")
