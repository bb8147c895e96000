import pytest
from tests.sync.machine import play

@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(600))
def test_seed(seed):
    play(seed)
