"""Logging is on until its deadline, judged at every reading."""

import pytest

from fleetvisor.features.logs.rules import judge


@pytest.mark.parametrize(("expires", "now", "until"), [(None, 5, None), (6, 5, 6), (5, 5, None), (4, 5, None)], ids=str)
def test_logging_is_on_only_before_its_deadline(expires, now, until):
    assert judge(expires, now) == until
