"""Servers for the API tests: in memory unless a test asks for more engines."""

import pytest
from tests.api.world import serving

from fleetvisor.db.sqlite import memory


@pytest.fixture
async def server(tmp_path):
    async with serving(memory(), tmp_path) as running:
        yield running


@pytest.fixture
def hands(server):
    return server.hands
