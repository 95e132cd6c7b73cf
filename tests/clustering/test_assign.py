"""Centroids, and newcomers."""

import numpy as np

from caafp_app.clustering.assign import assign, centroids_of


def test_centroids_are_mean_directions():
    sketches = np.array([[2.0, 0.0], [0.0, 9.0], [0.0, -4.0], [0.0, 0.0]], np.float32)
    centroids = centroids_of(sketches, np.array([0, 0, 2, 2]), 4)
    assert centroids.dtype == np.float32
    assert centroids.tolist() == [[0.5, 0.5], [0.0, 0.0], [0.0, -0.5], [0.0, 0.0]]


def test_newcomers_join_the_nearest_direction():
    centroids = np.array([[1.0, 0.0], [0.0, 5.0]], np.float32)
    newcomers = np.array([[3.0, 1.0], [0.1, 0.2], [-1.0, 0.5], [1.0, 1.0], [0.0, 0.0]], np.float32)
    labels = assign(newcomers, centroids)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1, 0, 0]
