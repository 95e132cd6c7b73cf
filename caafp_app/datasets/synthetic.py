"""Generated windows of an inertial sensor, of users in latent groups: the data of the default run.

What a group has in common is what sets people's recordings apart in the field: the cadence of their
gait, how they carry the device (its orientation), how strongly they move, and what they do most.
Two of these make one model for all impossible: a device turned by one step reads *sitting* where
the next group reads *standing*, and the cadence of one group's *stairs* is that of the next group's
*walking*. So clustering has something true to find, and a test can compare the clusters with
`planted_groups`.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from caafp_app.datasets.base import DataShape, DataSource, FloatArray, IntArray, Windows
from caafp_app.errors import DataError
from caafp_app.settings import DataSettings

TIME = 64
RATE = 25.0
"""Samples per second."""
CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
"""Acceleration in g with gravity, rotation in rad/s."""
CLASSES = ("walking", "stairs", "cycling", "sitting", "standing")

# Cadence grows by this factor from one level to the next; stairs are climbed one level below
# walking.
_CADENCE_STEP = 1.26
_CADENCE_LEVELS = 3
_SLOWEST_WALK = 1.5
# Mix of activities of group 0; group g has it rolled by g places.
_MIX = np.array([0.32, 0.24, 0.2, 0.12, 0.12])
# Of each channel, in its unit: enough that a group's own model errs on a window in thirty or so.
_NOISE = np.array([0.25, 0.25, 0.25, 0.5, 0.5, 0.5])
# Branches of the tree of seeds below `data-seed`: nothing that one draws moves the others.
_WORLD, _ASSIGNMENT, _USER = range(3)

Array = npt.NDArray[np.float64]


class SyntheticSource(DataSource):
    """Users made from ``data-seed``, each from a seed of its own, so that one can be made alone."""

    known_shape = DataShape((TIME, len(CHANNELS)), CLASSES)

    def population(self, settings: DataSettings) -> int:
        """Return ``synthetic-users``."""
        return settings.synthetic_users

    def windows(self, settings: DataSettings) -> Windows:
        """Generate all users."""
        groups = tuple(self.group(settings, k) for k in range(settings.synthetic_users))
        return _all_users(
            settings.data_seed, groups, settings.synthetic_groups, settings.synthetic_windows
        )

    def client(self, settings: DataSettings, index: int) -> Windows:
        """Generate one user alone; it is the same whatever the number of users."""
        if not 0 <= index < settings.synthetic_users:
            raise DataError(
                f"synthetic: expected a user between 0 and {settings.synthetic_users - 1} "
                f"(synthetic-users), found {index}"
            )
        group, groups = self.group(settings, index), settings.synthetic_groups
        return _one_user(settings.data_seed, groups, settings.synthetic_windows, index, group)

    def group(self, settings: DataSettings, index: int) -> int:
        """Return the latent group of a user; a subclass may move some to another."""
        return _group_of(settings.data_seed, settings.synthetic_groups, index)


def planted_groups(settings: DataSettings) -> IntArray:
    """Return the latent group of every user: what clustering ought to find.

    int64 ``[synthetic-users]``, in ``0..synthetic-groups - 1``; sizes of groups differ by one at
    most.
    """
    source = SyntheticSource()
    return np.array([source.group(settings, k) for k in range(settings.synthetic_users)], np.int64)


@lru_cache(maxsize=2)
def _all_users(seed: int, group_of: tuple[int, ...], groups: int, windows: int) -> Windows:
    parts = [_one_user(seed, groups, windows, k, group) for k, group in enumerate(group_of)]
    return Windows(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.user for part in parts]),
        CLASSES,
    )


def _one_user(seed: int, groups: int, windows: int, index: int, group: int) -> Windows:
    rng = _generator(seed, _USER, index)
    labels = _activities(rng, windows, group)
    x = _signals(rng, labels, group, groups, _rotation(_generator(seed, _WORLD)))
    return Windows(x, labels, np.full(windows, index, np.int64), CLASSES)


def _generator(seed: int, *branch: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=branch))


def _group_of(seed: int, groups: int, index: int) -> int:
    # Every block of `groups` users holds each group once, in an order of its own: balanced for any
    # number of users, and no user's group depends on how many there are.
    block, place = divmod(index, groups)
    return int(_generator(seed, _ASSIGNMENT, block).permutation(groups)[place])


def _activities(rng: np.random.Generator, windows: int, group: int) -> IntArray:
    """Return what the user does in each window, in bouts: int64 ``[windows]``."""
    share = rng.dirichlet(80.0 * np.roll(_MIX, group))
    # Largest remainder: the counts add up to `windows` exactly.
    exact = share * windows
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: windows - int(counts.sum())]] += 1
    bouts = np.concatenate([_bouts(rng, activity, count) for activity, count in enumerate(counts)])
    order = rng.permutation(len(bouts))
    return np.repeat(bouts[order, 0], bouts[order, 1])


def _bouts(rng: np.random.Generator, activity: int, count: int) -> IntArray:
    """Cut an activity's windows into bouts: int64 ``[bouts, 2]``, activity and length."""
    borders = np.unique(rng.integers(0, count + 1, size=4))
    lengths = np.diff(np.concatenate([[0], borders, [count]]))
    lengths = lengths[lengths > 0]
    return np.stack([np.full(len(lengths), activity), lengths], axis=1).astype(np.int64)


def _signals(
    rng: np.random.Generator, labels: IntArray, group: int, groups: int, world: Array
) -> FloatArray:
    """Return the recordings of a user: float32 ``[len(labels), 64, 6]``."""
    # The user's own way within the group: small against what sets groups apart.
    level = group % _CADENCE_LEVELS
    walk = _SLOWEST_WALK * _CADENCE_STEP**level * rng.normal(1.0, 0.015)
    strength = (0.8 + 0.2 * level) * rng.normal(1.0, 0.05)
    step = 2.0 * np.pi / max(groups, 2)
    tilt = _small_rotation(rng, 0.06)
    carried = world @ _about_z(group * step) @ tilt

    n = len(labels)
    cadence = np.choose(labels, [walk, walk / _CADENCE_STEP, 0.9 * walk, 0.0, 0.0])
    cadence = cadence * rng.normal(1.0, 0.04, n)
    sway = np.choose(labels, [0.35, 0.4, 0.15, 0.0, 0.0]) * strength * rng.normal(1.0, 0.08, n)
    turn = np.choose(labels, [0.6, 0.9, 1.6, 0.0, 0.0]) * strength * rng.normal(1.0, 0.08, n)
    # Upright unless seated; sitting turns the device by one step of the groups' orientations.
    posture = np.choose(labels, [0.0, 0.0, 0.5, 1.0, 0.0]) * step + rng.normal(0.0, 0.2, n)

    phase = (
        2.0 * np.pi * cadence[:, None] * (np.arange(TIME) / RATE)
        + rng.uniform(0, 2 * np.pi, n)[:, None]
    )
    body = np.empty((n, TIME, 6))
    body[..., 0] = np.cos(posture)[:, None] + sway[:, None] * np.sin(phase)
    body[..., 1] = np.sin(posture)[:, None] + 0.5 * sway[:, None] * np.sin(phase / 2.0)
    body[..., 2] = 0.4 * sway[:, None] * np.sin(2.0 * phase + 0.7)
    body[..., 3] = 0.4 * turn[:, None] * np.sin(phase + 0.4)
    body[..., 4] = 0.3 * turn[:, None] * np.cos(2.0 * phase)
    body[..., 5] = turn[:, None] * np.cos(phase / 2.0)
    device = np.concatenate([body[..., :3] @ carried.T, body[..., 3:] @ carried.T], axis=-1)
    device += rng.normal(0.0, 1.0, device.shape) * _NOISE
    return device.astype(np.float32)


def _about_z(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _rotation(rng: np.random.Generator) -> Array:
    """Return a uniform random rotation (QR of a normal matrix, signs fixed): float64 ``[3, 3]``."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return np.asarray(q, np.float64)


def _small_rotation(rng: np.random.Generator, radians: float) -> Array:
    """Return a rotation by a normal angle about a random axis (Rodrigues' formula)."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = rng.normal(0.0, radians)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k, np.float64)
