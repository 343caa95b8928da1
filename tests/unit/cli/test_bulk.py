"""A change to many devices goes on where one device stands in its way, and says how far it came."""

import pytest

from fleetvisor.cli.bulk import Bulk
from fleetvisor.cli.options import Failure
from fleetvisor.cli.output import Output
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.resources import Device, DeviceApp, DeviceLogging


def devices(count):
    return [Device(sid=f"UV{n}", unique_name=f"d{n}", app=DeviceApp(), logging=DeviceLogging()) for n in range(count)]


def problem(status, retry_after_s=None):
    return ApiProblem(20000 + status, status, f"answer {status}.", "hint", retry_after_s)


def change(**faults):
    """Give a change that meets these faults, each once; whom it reached is kept."""
    left = {name: list(several) if isinstance(several, list) else [several] for name, several in faults.items()}
    reached = []

    def one(device):
        if left.get(device.unique_name):
            raise left[device.unique_name].pop(0)
        reached.append(device.unique_name)
        return device.unique_name != "d0"

    return one, reached


def test_a_device_that_refuses_or_is_gone_keeps_none_from_the_others():
    bulk = Bulk(Output(quiet=True), "Trying", "tried")
    one, reached = change(d1=problem(409), d2=problem(404))
    bulk.run(devices(5), 5, one)
    assert reached == ["d0", "d3", "d4"]
    assert (bulk.changed, bulk.unchanged, bulk.met) == (2, 1, 4)
    with pytest.raises(Failure, match=r"1 of 4 devices were not tried: d1: answer 409."):
        bulk.judge()


def test_only_a_few_that_refused_are_named():
    bulk = Bulk(Output(quiet=True), "Trying", "tried")
    bulk.run(devices(9), 9, change(**{f"d{n}": problem(409) for n in range(5)})[0])
    with pytest.raises(Failure, match=r"d2: answer 409.; 2 more"):
        bulk.judge()


def test_a_server_that_asks_for_patience_is_asked_again():
    bulk = Bulk(Output(quiet=True), "Trying", "tried")
    one, reached = change(d1=[problem(429, 0.0)] * 3)
    bulk.run(devices(3), 3, one)
    bulk.judge()
    assert reached == ["d0", "d1", "d2"]


@pytest.mark.parametrize("fault", [problem(400), problem(401), problem(500), Unreachable("gone.", "hint")])
def test_what_is_no_devices_own_fault_ends_it_and_says_how_far_it_came(fault):
    bulk = Bulk(Output(quiet=True), "Trying", "tried")
    with pytest.raises(Failure, match="2 devices were tried, then: "):
        bulk.run(devices(9), 9, change(d3=fault)[0])
    with pytest.raises(type(fault)):
        Bulk(Output(quiet=True), "Trying", "tried").run(devices(9), 9, change(d0=fault)[0])


def test_an_interruption_is_told_and_goes_on(capsys):
    bulk = Bulk(Output(), "Trying", "tried")
    with pytest.raises(KeyboardInterrupt):
        bulk.run(devices(9), 9, change(d4=KeyboardInterrupt())[0])
    assert "3 devices were tried. Run it again" in capsys.readouterr().err
