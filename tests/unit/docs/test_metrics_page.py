"""The page of metrics: it names every metric, label value and job that there is, and nothing else."""

import re
from pathlib import Path

from fleetvisor.features.rollouts.waiting import CODES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/metrics.md").read_text()
SERVER = "\n".join(path.read_text() for path in (ROOT / "src/fleetvisor/server").glob("*.py"))
ROWS = dict(re.findall(r"^\| `fleetvisor_(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))


def test_every_metric_has_a_row():
    watched = re.findall(r'\bwatch(?:_each)?\("(\w+)"', SERVER)
    counted = re.findall(r'"fleetvisor_(\w+)"', (ROOT / "src/fleetvisor/obs/metrics.py").read_text())
    assert len(watched) > 5
    assert len(counted) == 2
    assert set(ROWS) == {*watched, *counted}


def test_the_kind_of_a_metric_is_told_by_its_name():
    for name, rest in ROWS.items():
        assert rest.startswith("counter" if name.endswith("_total") else "gauge"), name


def test_every_job_is_named_and_no_other():
    jobs = re.findall(r'Job\("([a-z-]+)"', SERVER)
    assert len(jobs) > 5
    told = ROWS["job_failures_total"].partition(":")[2]
    assert sorted(re.findall(r"`([a-z-]+)`", told)) == sorted(jobs)


def test_the_codes_that_alerts_are_made_of_exist():
    named = re.findall(r'waits_for="(\w+)"', PAGE)
    assert named
    assert set(named) <= set(CODES)
