"""Configuration: what a file says arrives unchanged and typed, or is refused with a message that helps."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

import sunspark
from sunspark.config import (
    ABSENT,
    differences,
    flatten,
    from_dict,
    load,
    nearest,
    refuse_unknown_fields,
    suggestion,
    to_dict,
    to_toml,
)
from sunspark.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Oven:
    """How it bakes."""

    celsius: float = 180.0
    """Temperature."""
    minutes: int = 40
    """Time."""
    fan: bool = False
    """Whether the air moves."""
    level: Literal["low", "middle"] = "middle"
    """Where the tin goes."""
    extras: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """Whatever else."""

    def __post_init__(self) -> None:
        if self.minutes < 1:
            raise ConfigError(f"minutes must be at least 1, got {self.minutes}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cake:
    """A cake."""

    name: str
    """Its name."""
    oven: Oven = field(default_factory=Oven)
    layers: tuple[str, ...] = ()
    """From below."""
    size: tuple[int, int] = (20, 10)
    """Width and height (cm)."""
    note: str | None = None
    """Anything."""


FULL = Cake(
    name="opera",
    oven=Oven(celsius=200.0, minutes=9, fan=True, level="low", extras={"steam": True, "trays": 2, "tilt": 0.5}),
    layers=("sponge", "cream"),
    size=(30, 4),
    note="cold",
)


def test_a_config_survives_the_way_through_dictionaries() -> None:
    assert from_dict(Cake, to_dict(FULL)) == FULL


def test_a_file_sets_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "cake.toml"
    path.write_text('name = "plain"\nlayers = ["a", "b"]\n[oven]\ncelsius = 170\n[oven.extras]\nsteam = true\n')
    assert load(Cake, path) == Cake(name="plain", layers=("a", "b"), oven=Oven(celsius=170.0, extras={"steam": True}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "x", "oven": {"celcius": 3.0}}, ["'oven.celcius'", "oven.celsius"]),
        ({"name": "x", "celsius": 3.0}, ["'celsius'", "oven.celsius"]),
        ({"name": "x", "zzz": 3.0}, ["'zzz'", "there are name, oven.celsius"]),
        ({}, ["name is missing", "text"]),
        ({"name": 3}, ["name must be text", "got 3 (a whole number)"]),
        ({"name": "x", "oven": 3}, ["oven must be a table"]),
        ({"name": "x", "oven": {"minutes": 1.5}}, ["oven.minutes must be a whole number", "1.5 (a number)"]),
        (
            {"name": "x", "oven": {"minutes": True}},
            ["oven.minutes must be a whole number", "True (true or false)"],
        ),
        ({"name": "x", "oven": {"fan": 1}}, ["oven.fan must be true or false"]),
        ({"name": "x", "oven": {"celsius": "hot"}}, ["oven.celsius must be a number", "'hot' (text)"]),
        ({"name": "x", "oven": {"level": "high"}}, ["oven.level must be one of 'low', 'middle'"]),
        (
            {"name": "x", "oven": {"extras": {"a": [1]}}},
            ["oven.extras.a must be true or false or a whole number"],
        ),
        ({"name": "x", "layers": ["a", 3]}, ["layers must be text", "got 3"]),
        ({"name": "x", "layers": "a"}, ["layers must be a list of text", "'a' (text)"]),
        ({"name": "x", "size": [1]}, ["size must be a list of a whole number"]),
        ({"name": "x", "note": 3}, ["note must be text or nothing"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Cake, values)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not valid TOML"),
        ('name = "x"\n[oven]\nminutes = 0\n', "minutes must be at least 1, got 0"),
        ('name = "x"\n[ovn]\nminutes = 4\n', "there is no key 'ovn'; the nearest is oven"),
    ],
)
def test_a_faulty_file_is_named_in_the_error(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "cake.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"cake\.toml") as caught:
        load(Cake, path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("made", "bits"),
    [
        (lambda seed: sunspark.sample("drawn", seed=seed), 63),
        (lambda seed: sunspark.SheetConfig(seed=seed), 63),
        (lambda seed: sunspark.CompareConfig(seed=seed), 63),
        (lambda seed: sunspark.TuneConfig(seed=seed), 32),
        (lambda seed: sunspark.TrainingConfig(seed=seed), 63),
        (lambda seed: sunspark.IngestConfig(seed=seed), 63),
    ],
)
def test_a_seed_that_is_none_is_refused_alike_everywhere(
    made: Callable[[int], object], bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (-1, 2**bits):
        with pytest.raises(ConfigError, match=rf"^seed must be 0 to 2\*\*{bits} - 1, got {seed}; use 0 if in doubt$"):
            made(seed)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*nowhere\.toml"):
        load(Cake, tmp_path / "nowhere.toml")


def test_differences_name_every_changed_key_and_no_other() -> None:
    changed = replace(FULL, oven=replace(FULL.oven, celsius=210.0, extras={"steam": True, "trays": 3, "rack": 1}))
    assert differences(FULL, FULL) == []
    assert differences(FULL, changed) == [
        ("oven.celsius", 200.0, 210.0),
        ("oven.extras.trays", 2, 3),
        ("oven.extras.tilt", 0.5, ABSENT),
        ("oven.extras.rack", ABSENT, 1),
    ]
    bare = replace(FULL, oven=replace(FULL.oven, extras={}))
    assert {(key, new) for key, _, new in differences(FULL, bare)} == {
        (f"oven.extras.{name}", ABSENT) for name in FULL.oven.extras
    }


def test_flattened_keys_are_dotted_and_nothing_is_left_out() -> None:
    nested = {"a": 1, "b": {"c": {"d": [2]}, "e": {}}}
    assert list(flatten(nested)) == [("a", 1), ("b.c.d", [2]), ("b.e", {})]


def test_the_nearest_name_comes_first() -> None:
    names = ["optim.learning_rate", "training.epochs", "launch.workers"]
    assert nearest("lerning_rate", names)[0] == "optim.learning_rate"
    assert nearest("optim.workers", names)[0] == "launch.workers"
    assert nearest("xyzzy", names) == []


def test_what_is_not_near_is_not_offered() -> None:
    options = ["--epochs", "--keep", "--port", "--norm", "--help"]
    assert nearest("--epoch", options) == ["--epochs"]
    assert nearest("--lr", options) == []
    assert suggestion("x", [f"name {number}" for number in range(20)]).endswith("name 4 and 15 more")


def test_a_field_that_is_another_sections_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Cake has no field 'celsius'; the nearest is oven\.celsius"):
        refuse_unknown_fields(Cake, ["name", "celsius"])


def test_what_is_written_as_toml_is_read_unchanged() -> None:
    values = {
        "text": 'quoted "é" 🌞 \\ back\x7f\x01\nslash',
        "numbers": [1, -2.5, 1e-05, 1e22, float("inf")],
        "flags": {"on": True, "off": False},
        "nested": [{"kind": "crop", "of": {"width": 3, "empty": {}}}, {"not bare": [{"ü": 1}]}],
        "not bare.at.all": {"": 1, "ключ": "значение", "dotted.key": {"a-b_1": []}},
        "empty": {},
    }
    assert tomllib.loads(to_toml(values)) == values
    assert to_toml({"left out": None}) == ""


@pytest.mark.parametrize("value", [object(), [1, None], {"a": [b"bytes"]}])
def test_what_toml_does_not_hold_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"key.* which no TOML file holds"):
        to_toml({"key": value})
