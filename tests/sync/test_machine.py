import pytest

from tests.sync.machine import play


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(60))
def test_seed(seed):
    play(seed)
