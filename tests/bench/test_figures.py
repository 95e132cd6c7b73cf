from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from caafp_app.bench.figures.of_bench import (
    accuracies,
    accuracy_by_round,
    draw_cost,
    draw_rounds,
)
from caafp_app.bench.figures.of_run import (
    draw_dendrogram,
    draw_density,
    draw_masks,
    layer_densities,
)
from caafp_app.bench.figures.style import save
from caafp_app.bench.figures.sweep import draw_sweep, swept
from caafp_app.bench.file import BenchPlan, Case
from caafp_app.bench.place import BenchFolder
from caafp_app.bench.results import Result, gather
from caafp_app.bench.write import write_figures
from caafp_app.runs.directory import RunDirectory
from caafp_app.runs.reading import RunFiles, read_run
from caafp_app.settings import Scalar, Settings
from tests.bench.conftest import Finish
from tests.left_run import leave_run


@pytest.fixture
def run(tmp_path: Path) -> RunFiles:
    return read_run(leave_run(tmp_path / "run"))


def test_all_of_a_bench(plan: BenchPlan, folder: BenchFolder, finish: Finish) -> None:
    for seed in (1, 2):
        finish("dense", seed)
        finish("caafp", seed, 0.75, 0.75, 1.0, 0.5)
    assert write_figures(folder, []) == []
    written = write_figures(folder, gather(plan, folder))
    names = {path.stem for path in written}
    assert names == {
        "accuracy-by-round",
        "accuracy-by-client",
        "dendrogram-caafp",
        "mask-overlap-caafp",
        "density-caafp",
        "density-dense",
    }
    for path in written:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_the_same_figure_is_the_same_file(run: RunFiles, tmp_path: Path) -> None:
    first = [path.read_bytes() for path in save(draw_masks(run), tmp_path / "a-0.5")]
    assert first == [path.read_bytes() for path in save(draw_masks(run), tmp_path / "b")]
    assert {path.name for path in tmp_path.glob("a*")} == {"a-0.5.png", "a-0.5.svg"}


def test_cost_is_a_point_for_each_case(run: RunFiles) -> None:
    cases = [Case(name, Settings(), {}) for name in ("cheap", "dear")]
    runs = []
    for megabytes in (10, 100):
        summary = {**run.summary, "bytes": {**run.summary["bytes"], "total": megabytes * 1e6}}
        runs.append(replace(run, summary=summary))
    results = [Result(case, 1, one) for case, one in zip(cases, runs, strict=True)]
    figure = draw_cost(results)
    places = [container[0].get_xydata()[0] for container in figure.axes[0].containers]
    np.testing.assert_allclose(places, [[10.0, 62.5], [100.0, 62.5]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cheap", "dear"]
    assert draw_cost(results[:1]) is None


def test_rounds_are_of_all_clients_where_all_runs_know_them(
    plan: BenchPlan, folder: BenchFolder, finish: Finish
) -> None:
    path = finish("dense", 1, evaluated=True)
    found = read_run(path)
    assert accuracy_by_round(found, whole=True)[4] == pytest.approx(0.2)
    assert accuracy_by_round(found, whole=False)[4] == pytest.approx(0.4)
    figure = draw_rounds(gather(plan, folder))
    assert "all clients" in figure.axes[0].get_ylabel()
    np.testing.assert_allclose(
        figure.axes[0].lines[0].get_ydata(), 100 * 0.05 * np.arange(1, 7), rtol=1e-9
    )
    finish("caafp", 1)
    assert "the round's clients" in draw_rounds(gather(plan, folder)).axes[0].get_ylabel()


def test_clients_are_averaged_over_seeds(
    plan: BenchPlan, folder: BenchFolder, finish: Finish
) -> None:
    finish("dense", 1, 0.5, 1.0)
    finish("dense", 2, 0.7, 0.0)
    assert accuracies(gather(plan, folder)) == pytest.approx([60.0, 50.0])


def test_dendrogram_is_cut_between_the_clusters(run: RunFiles) -> None:
    axes = draw_dendrogram(run).axes[0]
    assert {text.get_text() for text in axes.get_xticklabels()} == {
        client.label for client in run.clients
    }
    (cut,) = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert 0.1 < cut < 0.9  # within clusters 0.1, between them 0.9
    colours = {text.get_text(): text.get_color() for text in axes.get_xticklabels()}
    assert colours["user-00"] == colours["user-01"] != colours["user-02"] == colours["user-03"]


@pytest.mark.parametrize(
    ("told", "top"),
    [
        ("2, average linkage", 0.725),
        ("1 to 6 by silhouette, complete linkage, every 5 rounds", 0.9),
        ("", 0.725),
    ],
)
def test_dendrogram_is_of_the_linkage_that_the_run_clustered_by(
    run: RunFiles, told: str, top: float
) -> None:
    distances = np.array([[0, 0.1, 0.5, 0.7], [0, 0, 0.8, 0.9], [0, 0, 0, 0.1], [0, 0, 0, 0]])
    labels = [f"user-{k:02d}" for k in range(4)]
    RunDirectory(run.path).write_distances(labels, distances + distances.T)
    axes = draw_dendrogram(replace(run, plan={"facts": {"clusters": told}})).axes[0]
    heights = [
        point[1] for lines in axes.collections for part in lines.get_segments() for point in part
    ]
    assert max(heights) == pytest.approx(top)


def test_mask_overlap_is_drawn_for_several_clusters_only(run: RunFiles, tmp_path: Path) -> None:
    axes = draw_masks(run).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.33", "0.33", "1.00"]
    assert draw_masks(read_run(leave_run(tmp_path / "one", clustered=False))) is None


def test_density_holds_from_its_round_on(run: RunFiles) -> None:
    layers = layer_densities(run)
    assert set(layers) == {"conv", "head"}
    updates = [r["round"] for r in run.rounds if r["mask_updated"]]
    assert updates
    assert layers["conv"] == [(n, pytest.approx(1 - 0.1 * n)) for n in [1, *updates]]
    assert draw_density(run) is not None
    assert draw_density(RunFiles(path=run.path)) is None


class TestSweep:
    def results(self, run: RunFiles, *cases: dict[str, Scalar]) -> list[Result]:
        return [
            Result(Case(str(i), Settings.from_run_config(dict(varied)), varied), 1, run)
            for i, varied in enumerate(cases)
        ]

    def test_a_line_for_each_strategy_whatever_follows_from_it(self, run: RunFiles) -> None:
        cases: list[dict[str, Scalar]] = [
            {"strategy": strategy, "partition-alpha": alpha, **more}
            for strategy, more in (("caafp", {}), ("fedavg", {"down-dtype": "int8"}))
            for alpha in (0.1, 0.5, 1.0)
        ]
        results = self.results(run, *cases)
        assert swept(results) == ["partition-alpha"]
        axes = draw_sweep(results, "partition-alpha").axes[0]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["caafp", "fedavg"]
        assert axes.get_xscale() == "log"

    @pytest.mark.parametrize(
        ("last", "lines"), [("three-1.0", ["found", "three"]), ("other", ["0", "3"])]
    )
    def test_lines_have_the_names_that_their_cases_share(
        self, run: RunFiles, last: str, lines: list[str]
    ) -> None:
        cases: list[dict[str, Scalar]] = [
            {"partition-alpha": alpha, "clusters": k} for k in (0, 3) for alpha in (0.1, 0.5, 1.0)
        ]
        names = ["found-0.1", "found-0.5", "found-1.0", "three-0.1", "three-0.5", last]
        results = [
            replace(result, case=replace(result.case, name=name))
            for result, name in zip(self.results(run, *cases), names, strict=True)
        ]
        legend = draw_sweep(results, "partition-alpha").axes[0].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == lines

    def test_what_follows_from_the_setting_makes_no_line_of_its_own(self, run: RunFiles) -> None:
        cases: list[dict[str, Scalar]] = [
            {"warmup-rounds": n, "cluster-rounds": 30 - n} for n in (0, 5, 10)
        ]
        results = self.results(run, *cases)
        assert swept(results) == ["warmup-rounds", "cluster-rounds"]
        axes = draw_sweep(results, "warmup-rounds").axes[0]
        assert len(axes.containers) == 1
        assert axes.get_xscale() == "linear"  # it begins at 0

    def test_not_where_there_is_no_line(self, run: RunFiles) -> None:
        parts: list[dict[str, Scalar]] = [
            {"proximal": a, "regrow": b} for a, b in ((1.0, 0.0), (0.5, 0.5))
        ]
        assert swept(self.results(run, *parts)) == []
        names: list[dict[str, Scalar]] = [{"schedule": n} for n in ("linear", "cubic", "one-shot")]
        assert swept(self.results(run, *names)) == []
        switch: list[dict[str, Scalar]] = [{"finetune-dense": n} for n in (True, False)]
        assert swept(self.results(run, *switch)) == []

    def test_results_are_those_of_the_cases(self, run: RunFiles, tmp_path: Path) -> None:
        better = read_run(leave_run(tmp_path / "better", (1.0, 1.0)))
        results = self.results(run, {"sparsity": 0.9}, {"sparsity": 0.5}, {"sparsity": 0.7})
        results[1] = replace(results[1], run=better)
        axes = draw_sweep(results, "sparsity").axes[0]
        (line,) = axes.containers
        np.testing.assert_allclose(line[0].get_xdata(orig=False), [0.5, 0.7, 0.9])
        np.testing.assert_allclose(line[0].get_ydata(orig=False), [100.0, 62.5, 62.5])
