import contextlib
import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.cli.settings import settings_toml
from caafp_app.errors import SettingsError
from caafp_app.registry import PATH_FORM, nearest
from caafp_app.runs.place import check_name
from caafp_app.settings import GROUPS, Settings, knobs
from caafp_app.settings.course import parse_arguments
from caafp_app.settings.removed import REMOVED

ROOT = Path(__file__).parents[1]
KNOBS = {knob.key: knob for knob in knobs()}
NAMES = [
    (knob.key, name)
    for knob in KNOBS.values()
    if knob.expected.startswith("one of ")
    for name in knob.expected.removeprefix("one of ").split(", ")
    if name != PATH_FORM
]
# What some names need beside them.
COMPANIONS: dict[str, dict[str, object]] = {
    "npz": {"data-dir": "windows.npz"},
    "folder": {"input-shape": "128,9", "classes": "6"},
}


def build(**values: object) -> Settings:
    return Settings.from_run_config({key.replace("_", "-"): value for key, value in values.items()})


CLASS_PATHS = (
    ["a:B", "own:FedProx", "my.methods.fed_prox:_Prox2", "fedavg:FedAvg"],
    [
        *("own", "own.FedProx", ":B", "a:", "a::B", "a:b.C", "a.:B", ".a:B", "a..b:C", "../a:B"),
        *("a:B\n", " a:B", "a b:C", "a/b:C", "a-b:C", "1a:B", "a:1B", "a:B()", "\u00e4:B", ""),
    ],
)
"""Names of classes that are allowed, and not."""


class TestDefaults:
    def test_an_empty_config_gives_the_defaults(self) -> None:
        assert Settings.from_run_config({}) == Settings()

    def test_pyproject_holds_every_knob_with_its_default_and_type(self) -> None:
        pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        config = pyproject["tool"]["flwr"]["app"]["config"]
        found = {key: (type(value), value) for key, value in config.items()}
        assert found == {key: (type(k.default), k.default) for key, k in KNOBS.items()}

    def test_pyproject_explains_every_knob_in_the_words_of_the_code(self) -> None:
        lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        expected = [line for line in settings_toml().splitlines() if line.partition(" = ")[1]]
        assert len(expected) == len(KNOBS)
        assert [line for line in expected if line not in lines] == []

    def test_keys_are_unique_over_the_groups(self) -> None:
        fields = [item.name for cls in GROUPS.values() for item in dataclasses.fields(cls)]
        assert len(fields) == len(set(fields)) == len(KNOBS)


class TestReading:
    @pytest.mark.parametrize(("key", "name"), NAMES)
    def test_every_name_is_accepted(self, key: str, name: str) -> None:
        settings = Settings.from_run_config({key: name, **COMPANIONS.get(name, {})})
        assert settings.to_dict()[key] == name

    def test_a_whole_number_is_a_number(self) -> None:
        timeout = build(round_timeout=5).rounds.round_timeout
        assert (timeout, type(timeout)) == (5.0, float)

    def test_changes_are_what_differs(self) -> None:
        assert build(seed=42, sparsity=0, clusters=2).changes() == {"clusters": 2, "sparsity": 0.0}

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "seed": st.integers(0, 2**62),
                "sparsity": st.floats(0.0, 1.0, exclude_max=True),
                "learning-rate": st.floats(0.0, 10.0, exclude_min=True),
                "schedule": st.sampled_from(["one-shot", "linear", "cubic"]),
                "finetune-dense": st.booleans(),
                "finetune-epochs": st.integers(0, 99) | st.just("auto"),
                "output-dir": st.text(),
                "prune-rounds": st.integers(5, 100),
            },
        )
    )
    def test_to_dict_is_the_inverse(self, config: dict[str, object]) -> None:
        settings = Settings.from_run_config(config)
        flat = settings.to_dict()
        assert config.items() <= flat.items()
        assert flat.keys() == KNOBS.keys()
        assert Settings.from_run_config(flat) == settings


class TestRefusals:
    @pytest.mark.parametrize(
        ("key", "value", "parts"),
        [
            ("sparsty", 0.5, ["unknown setting 'sparsty'", "did you mean 'sparsity'?"]),
            ("local_epochs", 3, ["unknown setting", "did you mean 'local-epochs'?"]),
            ("strategy", "caaf", ["one of caafp", "found 'caaf'", "did you mean 'caafp'?"]),
            ("strategy", "cafp", ["clusterfl, package.module:Name, found"]),
            *(
                ("strategy", value, ["package.module:Name", f"found {value!r}"])
                for value in CLASS_PATHS[1]
            ),
            ("dataset", "UCI_HAR", ["synthetic, digits, uci-har", "did you mean 'uci-har'?"]),
            ("up-dtype", "float8", ["float32, float16, int8", "found 'float8'"]),
            ("rest-dtype", "int8", ["one of float32, float16", "found 'int8'"]),
            ("sparsity", 1.0, ["at least 0 and below 1", "found 1.0"]),
            ("sparsity", -0.1, ["at least 0 and below 1", "found -0.1"]),
            ("up-dtype", "caafp_app.protocol.codec:INT8", ["one of float32, float16, int8, found"]),
            ("classes", "0", ["from 1 to 999999", "found '0'"]),
            ("classes", 6, ["a string", "found 6"]),
            ("classes", "walk,", ["different names"]),
            ("classes", "walk,walk", ["different names"]),
            ("train-fraction", 0.0, ["above 0 and below 1", "found 0.0"]),
            ("learning-rate", 0, ["above 0", "found 0.0"]),
            ("learning-rate", float("nan"), ["above 0", "found nan"]),
            ("proximal", float("inf"), ["at least 0", "found inf"]),
            ("seed", -1, ["at least 0", "found -1"]),
            ("seed", True, ["a whole number", "found True"]),
            ("seed", 3.0, ["a whole number", "found 3.0"]),
            ("finetune-epochs", "aut", ["a whole number of at least 0, or auto", "found 'aut'"]),
            ("sparsity", "0.7", ["a number", "found '0.7'"]),
            ("finetune-dense", 1, ["true or false", "found 1"]),
            ("data-dir", None, ["a string", "found None"]),
            ("run-name", "../up", ["a folder's name", "found '../up'"]),
            ("run-name", "..", ["a folder's name", "found '..'"]),
            ("run-name", "latest", ["other than 'latest'"]),
            ("input-shape", "128x9", ['"128,9"', "found '128x9'"]),
            ("input-shape", "128,0", ['"128,9"', "found '128,0'"]),
        ],
    )
    def test_one_value(self, key: str, value: object, parts: list[str]) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings.from_run_config({key: value})
        message = str(caught.value)
        assert key in message
        assert [part for part in parts if part not in message] == []

    @pytest.mark.parametrize(
        ("config", "parts"),
        [
            ({"initial-sparsity": 0.8}, ["initial-sparsity", "at most sparsity (0.7)", "0.8"]),
            ({"clusters": 13}, ["clusters", "at most the 12 clients", "13"]),
            (
                {"partition": "iid", "num-clients": 4, "clusters": 5},
                ["clusters", "at most the 4 clients"],
            ),
            ({"clusters": 3, "cluster-floor": 4}, ["clients-per-round", "at least 12", "found 10"]),
            ({"clusters": 0, "cluster-floor": 6}, ["clients-per-round", "at least 12"]),
            (
                {"warmup-rounds": 0, "cluster-rounds": 0, "prune-rounds": 0, "sparsity": 0.0},
                ["warmup-rounds", "at least 1", "found 0"],
            ),
            ({"evaluate-every": 51}, ["evaluate-every", "50 rounds", "found 51"]),
            ({"synthetic-groups": 13}, ["synthetic-groups", "synthetic-users (12)", "found 13"]),
            ({"num-clients": 5}, ["num-clients", "natural", "found 5"]),
            ({"dataset": "npz"}, ["data-dir", "npz"]),
            ({"dataset": "folder"}, ["input-shape", "classes"]),
            (
                {"dataset": "folder", "input-shape": "9,3", "classes": "2", "partition": "iid"},
                ["partition", "folder"],
            ),
            (
                {"dataset": "folder", "input-shape": "4,2", "classes": "3", "channels": "x,y,z"},
                ["channels: expected the 2 of input-shape"],
            ),
        ],
    )
    def test_combinations(self, config: dict[str, object], parts: list[str]) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings.from_run_config(config)
        assert [part for part in parts if part not in str(caught.value)] == []


class TestCombinationsThatAreFine:
    @pytest.mark.parametrize(
        "config",
        [
            {"prune-rounds": 0, "sparsity": 0.0},
            {"prune-rounds": 0, "sparsity": 0.5, "initial-sparsity": 0.5},
            {"warmup-rounds": 0, "cluster-rounds": 0},
            {"clusters": 1, "clients-per-round": 1, "min-available-nodes": 1},
            # How many clients a data set has is not the settings' to know.
            {"dataset": "uci-har", "clusters": 30},
            {"partition": "dirichlet", "clusters": 30},
            {"initial-sparsity": 0.7},
        ],
    )
    def test_accepted(self, config: dict[str, object]) -> None:
        settings = Settings.from_run_config(config)
        assert config.items() <= settings.to_dict().items()


class TestDerived:
    @pytest.mark.parametrize(
        ("text", "shape"), [("", None), ("128,9", (128, 9)), (" 64 , 6 ", (64, 6)), ("561", (561,))]
    )
    def test_shape(self, text: str, shape: tuple[int, ...] | None) -> None:
        assert build(input_shape=text).data.shape == shape

    @pytest.mark.parametrize(
        ("config", "clients"),
        [
            ({}, 12),
            ({"synthetic-users": 20}, 20),
            ({"dataset": "uci-har"}, None),
            ({"partition": "shards"}, None),
            ({"dataset": "uci-har", "partition": "shards", "num-clients": 8}, 8),
        ],
    )
    def test_known_clients(self, config: dict[str, object], clients: int | None) -> None:
        assert Settings.from_run_config(config).data.known_clients == clients


class TestClassPaths:
    @given(st.from_regex(r"[a-z_]+(\.[a-z_]+)*:[A-Za-z_][A-Za-z_0-9]*", fullmatch=True))
    def test_its_name_is_part_of_a_folders_name(self, path: str) -> None:
        run = build(strategy=path).run
        data = build(dataset=path).data
        check_name(f"20260101-000000-{run.strategy_name}-{data.dataset_name}-{2**62}", "run-name")
        assert path.partition(":")[2].lower().startswith(run.strategy_name)

    @pytest.mark.parametrize(
        ("key", "path"),
        [
            *(("strategy", path) for path in CLASS_PATHS[0]),
            *((key, "own:Part") for key in ("dataset", "model", "aggregation", "schedule")),
            *((key, "own:Part") for key in ("allocation", "optimizer")),
        ],
    )
    def test_a_part_may_be_named_by_its_path(self, key: str, path: str) -> None:
        settings = Settings.from_run_config({key: path})
        assert list(settings.paths()) == [(key, path)]

    def test_a_setting_without_a_registry_takes_no_path(self) -> None:
        with pytest.raises(SettingsError, match="partition: expected one of"):
            build(partition="own:Parts")
        # A folder may be called so, and is no path of an object.
        assert not list(build(output_dir="own:Part").paths())

    def test_rules_of_known_strategies_do_not_bind_it(self) -> None:
        # Refused with caafp (no rounds to prune in) and with efficientfl (no chain of layers).
        settings = build(strategy="own:Mine", prune_rounds=0, sparsity=0.7, model="transformer")
        assert settings.run.strategy_name == "mine"
        assert build(strategy="fedavg").run.strategy_name == "fedavg"


class TestRemoved:
    @pytest.mark.parametrize("key", REMOVED)
    def test_a_removed_setting_is_refused_with_what_to_write(self, key: str) -> None:
        assert key not in KNOBS
        with pytest.raises(SettingsError, match=f"^{key}: no setting any more; ") as caught:
            Settings.from_run_config({key: 1})
        assert re.search(r'="|leave it out', str(caught.value))

    @pytest.mark.parametrize("advice", sorted(set(REMOVED.values())))
    def test_what_to_write_is_accepted(self, advice: str) -> None:
        for key, value in re.findall(r'([a-z-]+)="([^"]+)"', advice):
            assert Settings.from_run_config({key: value}).to_dict()[key] == value

    def test_no_more_than_62_are_left_besides_those_of_later_features(self) -> None:
        later = {"engine", "known-devices", "unseen-users", "tolerance", "personal", "levels"}
        later |= {"share-class-counts"}
        assert len(set(KNOBS) - later - {"deadline"}) <= 62


class TestStrategyArguments:
    def test_they_are_read_by_name(self) -> None:
        run = build(
            strategy_args="sharing=0.4, linkage = 'complete', rest-after=0, uniform=true"
        ).run
        assert run.strategy_arguments == {
            "sharing": 0.4,
            "linkage": "complete",
            "rest_after": 0,
            "uniform": True,
        }
        assert build().run.strategy_arguments == {}

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("sharing", "the inside of a TOML inline table"),
            ("sharing=0.4,,", "the inside of a TOML inline table"),
            ("a=1, a=2", "the inside of a TOML inline table"),
            ("a=1}\nb={c=2", "the inside of a TOML inline table"),
            ("a=[1]", "a to be a finite number"),
            ("a.b=1", "a to be a finite number"),
            ("a=nan", "a to be a finite number"),
            ("a=2026-01-01", "a to be a finite number"),
            ("_a=1", "names of arguments"),
            ("'a b'=1", "names of arguments"),
            ("rest-after=1, rest_after=2", "names of arguments, each once"),
        ],
    )
    def test_what_is_none_is_refused(self, text: str, part: str) -> None:
        with pytest.raises(SettingsError, match=f"^strategy-args: expected .*{part}"):
            build(strategy_args=text)

    @given(st.text())
    def test_any_text_gives_arguments_or_one_error(self, text: str) -> None:
        with contextlib.suppress(SettingsError):
            assert all(name.isidentifier() for name in parse_arguments(text))


@pytest.mark.parametrize(
    ("text", "count", "names"),
    [("", 0, ()), ("6", 6, ()), ("walk, sit", 2, ("walk", "sit")), ("walk", 1, ("walk",))],
)
def test_classes_are_a_number_or_names(text: str, count: int, names: tuple[str, ...]) -> None:
    data = build(classes=text).data
    assert (data.class_count, data.names_of_classes) == (count, names)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("uci_har", "uci-har"), ("WISDM", "wisdm"), ("sintetic", "synthetic"), ("zzzz", None)],
)
def test_nearest(word: str, expected: str | None) -> None:
    assert nearest(word, ("synthetic", "uci-har", "wisdm")) == expected
