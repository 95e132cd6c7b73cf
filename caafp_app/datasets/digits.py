"""Handwritten digits that come with scikit-learn: pictures to try things on, without a download.

They are the test part of the UCI set *Optical Recognition of Handwritten Digits* (E. Alpaydin,
C. Kaynak, 1998): 1797 pictures of 8 x 8 grey values from 0 to 16. Who wrote which was not
published, so that a client is a part dealt out by labels, never a user.
"""

from functools import lru_cache

import numpy as np

from caafp_app.datasets.base import DataShape, DataSource, Windows
from caafp_app.errors import SettingsError
from caafp_app.settings import DataSettings

SHAPE = (8, 8, 1)
"""Rows, columns and channels of a picture."""
CLASSES = tuple(str(digit) for digit in range(10))
_WHITE = 16.0


class DigitsSource(DataSource):
    """One pool of pictures, grey values scaled to 0..1; *time* is the place in the file."""

    known_shape = DataShape(SHAPE, CLASSES)

    def population(self, settings: DataSettings) -> int:
        """Refuse: there are no users to count."""
        raise SettingsError(
            "partition: dataset 'digits' does not say who wrote which picture; expected dirichlet, "
            f"shards or iid, found {settings.partition!r}"
        )

    def windows(self, settings: DataSettings) -> Windows:
        """Return all pictures, as of one user; they are read once per process."""
        return _load()


@lru_cache(maxsize=1)
def _load() -> Windows:
    from sklearn.datasets import load_digits

    pictures, digits = load_digits(return_X_y=True)
    x = (pictures / _WHITE).reshape(-1, *SHAPE)
    return Windows.grouped(x, digits, np.zeros(len(digits)), CLASSES)
