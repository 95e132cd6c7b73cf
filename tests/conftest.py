"""What all tests share: a home of their own, and one profile of hypothesis."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: two cores that also run Ray make any single example slow now and then.
settings.register_profile("caafp", deadline=None, max_examples=50)
settings.load_profile("caafp")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep results and caches of tests out of the user's own ``CAAFP_HOME``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAAFP_HOME", str(tmp_path_factory.mktemp("home")))
        yield
