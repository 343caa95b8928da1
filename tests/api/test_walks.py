"""The page of walks names the files that each of its requests enters: the requests are made under a profiler."""

import re
import sys
from pathlib import Path

from tests.api.world import BASE, serving

import fleetvisor
from fleetvisor.db.sqlite import memory

SOURCE = Path(fleetvisor.__file__).parent
PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/walks.md"
FLOORS = ("api/", "features/", "channel/")


class Entered:
    """Which files of the edges and the domain are entered meanwhile."""

    def __enter__(self):
        self.files = set()
        sys.setprofile(self._hear)
        return self.files

    def __exit__(self, *_):
        sys.setprofile(None)

    def _hear(self, frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(SOURCE)) and not code.co_name.startswith("<"):
            name = Path(code.co_filename).relative_to(SOURCE).as_posix()
            if name.startswith(FLOORS):
                self.files.add(name)


def told():
    """Return the files of each walk of the page, by its heading."""
    walks = {}
    for part in re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = re.split(r"^## ", part, flags=re.MULTILINE)[0].partition("\n")
        walks[heading] = {name for name in re.findall(r"`([\w/]+\.py)`", text) if name.startswith(FLOORS)}
    return walks


async def test_the_walks_name_the_files_that_the_requests_enter(tmp_path):
    walks, walked = told(), {}
    async with serving(memory(), tmp_path) as server:
        hands = server.hands
        made = await hands.device("boiler-7")
        await hands.get("/v1/Devices/boiler-7")
        device = {"authorization": f"Bearer {made['device_token']}"}

        async def walk(heading, request):
            with Entered() as files:
                answer = await request
            walked[next(title for title in walks if title.startswith(heading))] = files
            return answer

        await walk("A device is fetched", hands.get("/v1/Devices/boiler-7"))
        app = await walk("It is uploaded", hands.app("v1"))
        await walk("A device gets it", hands.post("/v1/Devices/boiler-7", TargetApp="v1"))
        polled = await walk("The device polls", hands.http.get(f"{BASE}/device/v1/desired", headers=device))
        desired = polled.json()["app"]
        digest = desired["layers"][0]["sha256"]
        await walk("It downloads", hands.http.get(f"{BASE}/device/v1/layers/{digest}", headers=device))
        report = {
            "journal": "0" * 32,
            "sequence": 1,
            "running": {"app": app["sid"], "manifest": desired["manifest"] or app["hash"].rpartition(":")[2]},
            "update": {"number": desired["update"], "state": "succeeded", "error_code": 0},
            "boot_count": 1,
            "wake_reason": 0,
        }
        answer = await walk("It reports", hands.http.post(f"{BASE}/device/v1/report", headers=device, json=report))
        assert answer.status_code == 200, answer.text
    wrong = {
        heading: {"not entered": sorted(walks[heading] - files), "not named": sorted(files - walks[heading])}
        for heading, files in walked.items()
        if files != walks[heading]
    }
    assert not wrong, wrong
    assert walked.keys() == walks.keys()
