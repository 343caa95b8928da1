"""Pages of selected Devices meet each Device once on the way there, and once on the way back."""

import pytest
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import memory

DEVICES = 24


async def walk(hands, url, key):
    """Return the names of all pages in the order of the walk, and the last page's URL."""
    names, last = [], url
    while url:
        body = (await hands.get(url)).json
        names.append([device["unique_name"] for device in body["devices"]])
        last, url = url, body["meta"][f"{key}_page_url"]
    return names, last


@pytest.mark.parametrize("oldest", range(6))
async def test_the_way_back_meets_every_device_that_the_way_there_met(tmp_path, oldest):
    """A search looks at six Devices a page; the selected ones lie before the last of them, on it, or after it."""
    async with serving(memory(), tmp_path, selector_rows_max=6) as server:
        for number in range(DEVICES):
            selected = number >= oldest and number % 5 != 1
            await server.hands.device(f"d{number}", Labels=f"kept={'yes' if selected else 'no'}")
            server.clock.advance(1)
        empty = 0
        for size in range(1, 8):
            there, last = await walk(server.hands, f"{BASE}/v1/Devices?Selector=kept!%3Dno&PageSize={size}", "next")
            back, first = await walk(server.hands, last, "previous")
            again, _ = await walk(server.hands, first, "next")
            empty += not there[-1]
            wanted = [f"d{number}" for number in reversed(range(DEVICES)) if number >= oldest and number % 5 != 1]
            assert [name for page in there for name in page] == wanted
            assert [name for page in reversed(back) for name in page] == wanted
            assert [name for page in again for name in page] == wanted
        assert empty or not oldest
