"""A listener that fails keeps neither the change nor the other listeners from going on."""

from fleetvisor.bus.bus import Bus


def test_a_listener_that_fails_hides_the_bell_from_no_other():
    bus, heard = Bus(), []

    def fail(_):
        raise RuntimeError("a fault of a cache")

    bus.listen(fail)
    bus.listen(heard.append)
    bus.ring(("UV1",))
    assert heard == [frozenset({"UV1"})]
