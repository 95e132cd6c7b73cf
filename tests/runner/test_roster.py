"""Who takes part, and who is drawn."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from caafp_app.protocol.messages import Action, Answer
from caafp_app.runner.roster import Client, Roster, generator, sample


def told(label: str, examples: int = 10, population: int = -1, idle: str = "") -> Answer:
    return Answer(label, examples, population, idle, action=Action.DESCRIBE, round=0)


def roster_of(*labels: str) -> Roster:
    roster = Roster()
    roster.meet(range(1, len(labels) + 1))
    for node, label in enumerate(labels, start=1):
        assert roster.enrol(node, told(label)) == ""
    return roster


def test_clients_are_known_by_label_and_node() -> None:
    roster = roster_of("b", "a")
    assert [c.label for c in roster.reachable()] == ["a", "b"]
    found = roster.at(1)
    assert (found.label, found.examples, found.cluster, found.held) == ("b", 10, -1, "")
    assert roster.at(99) is None
    assert roster.unknown([1, 2, 3]) == [3]


def test_an_idle_node_is_noted_with_its_reason_and_not_asked_again() -> None:
    roster = roster_of("a")
    assert roster.enrol(7, told("idle-7", idle="no data")) == "no data"
    assert roster.idle == {7: "no data"}
    assert roster.unknown([1, 7]) == []
    assert list(roster.clients) == ["a"]


def test_a_client_that_comes_back_at_another_node_keeps_its_cluster_but_holds_nothing() -> None:
    roster = roster_of("a", "b")
    client = roster.clients["a"]
    client.cluster, client.held = 2, "digest"
    roster.meet([2, 3])
    assert [c.label for c in roster.reachable()] == ["b"]
    assert roster.enrol(3, told("a", examples=12)) == ""
    assert roster.clients["a"] is client
    assert (client.node, client.cluster, client.held, client.examples) == (3, 2, "", 12)
    assert roster.at(3) is client
    assert roster.at(1) is None


def test_the_population_is_the_largest_that_was_told_even_by_idle_nodes() -> None:
    roster = Roster()
    assert roster.population == -1
    roster.enrol(1, told("a", population=12))
    roster.enrol(2, told("x", population=30, idle="partition 30 of 31"))
    roster.enrol(3, told("b"))
    assert roster.population == 30


def clients_in(clusters: list[int]) -> list[Client]:
    return [Client(f"c{k:03d}", k, cluster=c) for k, c in enumerate(clusters)]


@given(
    clusters=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    count=st.integers(0, 35),
    floor=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_a_sample_has_its_size_its_floor_and_its_order(
    clusters: list[int], count: int, floor: int, seed: int
) -> None:
    clients = clients_in(clusters)
    chosen = sample(clients, count, np.random.default_rng(seed), floor)
    labels = [c.label for c in chosen]
    assert len(set(labels)) == len(labels) == min(count, len(clients))
    assert labels == sorted(labels)
    again = sample(clients, count, np.random.default_rng(seed), floor)
    assert [c.label for c in again] == labels
    wanted = {k: min(floor, clusters.count(k)) for k in set(clusters)}
    if sum(wanted.values()) <= count:
        for k, least in wanted.items():
            assert sum(c.cluster == k for c in chosen) >= least


def test_sampling_is_even() -> None:
    clients = clients_in([0] * 8 + [1] * 2)
    drawn = np.zeros(10)
    for seed in range(2000):
        for client in sample(clients, 3, np.random.default_rng(seed)):
            drawn[client.node] += 1
    assert drawn.sum() == 6000
    assert np.all(np.abs(drawn - 600) < 100)  # five standard deviations


def test_generators_differ_by_seed_round_and_purpose_alone() -> None:
    draws = {
        key: generator(*key).random()
        for key in [(1, 1, "sample"), (1, 2, "sample"), (2, 1, "sample"), (1, 1, "evaluate")]
    }
    assert len(set(draws.values())) == 4
    assert generator(1, 1, "sample").random() == draws[1, 1, "sample"]


def test_clusters_are_listed_in_order() -> None:
    roster = roster_of("d", "c", "b", "a")
    for label, cluster in zip("abcd", (1, 0, 1, 0), strict=True):
        roster.clients[label].cluster = cluster
    groups = roster.clusters()
    assert {k: [c.label for c in cs] for k, cs in groups.items()} == {0: ["b", "d"], 1: ["a", "c"]}
