"""Metrics have few names and bounded labels."""

import pytest
from prometheus_client import generate_latest

from fleetvisor.obs.metrics import Metrics, route_of

SID = "UV" + "0" * 32
RESOURCES = frozenset({"Apps", "Configs", "Devices", "Manifest"})


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/Devices", "v1/Devices"),
        ("/v1/Devices.json", "v1/Devices"),
        (f"/v1/Devices/{SID}", "v1/Devices"),
        (f"/v1/Devices/{SID}/Configs/Devices", "v1/Devices/Configs"),
        ("/v1/Apps/KA1/Manifest", "v1/Apps/Manifest"),
        ("/v1/Apps/KA1/Manifest.json", "v1/Apps/Manifest"),
        ("/v1/whatever", "v1"),
        ("/v1", "v1"),
        (f"/v1/Devices/{SID}/whatever", "v1"),
        ("/device/v1/desired", "device/desired"),
        ("/device/v1/layers/" + "a" * 64, "device/layers"),
        ("/device/v1/x", "device"),
        ("/device/", "device"),
        ("/docs/errors/20404", "docs"),
        ("/device/v1/enroll", "device/enroll"),
        ("/default/controller/v1/boiler-7", "ddi"),
        ("/default/controller/v1/boiler-7/deploymentBase/4/feedback", "ddi/deploymentBase"),
        ("/default/controller/v1/boiler-7/softwaremodules/1/artifacts/a.swu", "ddi/softwaremodules"),
        ("/default/controller/v1/boiler-7/etc", "ddi"),
        ("/default/controller/v1", "ddi"),
        ("/healthz", "healthz"),
        ("/wp-login.php", "other"),
        ("/", "other"),
        ("", "other"),
    ],
)
def test_a_route_is_the_name_of_a_resource_never_a_path(path, route):
    assert route_of(path, RESOURCES) == route


def test_requests_are_counted_by_route_method_and_status():
    metrics = Metrics(RESOURCES)
    for _ in range(2):
        metrics.request("/v1/Devices", "GET", 200)
    metrics.request("/v1/Devices", "BREW", 405)
    text = generate_latest(metrics.registry).decode()
    assert 'fleetvisor_requests_total{method="GET",route="v1/Devices",status="200"} 2.0' in text
    assert 'fleetvisor_requests_total{method="other",route="v1/Devices",status="405"} 1.0' in text


def test_a_watched_value_is_read_when_it_is_asked_for():
    metrics, held = Metrics(()), [1]
    metrics.watch("held_polls", "Polls held.", lambda: held[0])
    held[0] = 7
    assert "fleetvisor_held_polls 7.0" in generate_latest(metrics.registry).decode()


def test_a_watched_total_is_a_counter():
    metrics = Metrics(())
    metrics.watch("database_writes_total", "Writes.", lambda: 3)
    text = generate_latest(metrics.registry).decode()
    assert "# TYPE fleetvisor_database_writes_total counter" in text
    assert "fleetvisor_database_writes_total 3.0" in text


def test_a_value_is_watched_for_each_of_a_label():
    metrics, waiting = Metrics(()), {"soak": 1, "operator": 0}
    metrics.watch_each("rollouts", "Rollouts.", "waits_for", lambda: waiting)
    waiting["operator"] = 2
    text = generate_latest(metrics.registry).decode()
    assert 'fleetvisor_rollouts{waits_for="soak"} 1.0' in text
    assert 'fleetvisor_rollouts{waits_for="operator"} 2.0' in text


def test_failures_of_jobs_are_counted():
    metrics = Metrics(())
    metrics.job_failed("sweep")
    assert 'fleetvisor_job_failures_total{job="sweep"} 1.0' in generate_latest(metrics.registry).decode()


def test_a_value_that_cannot_be_read_hides_no_other():
    metrics = Metrics(())

    def fail():
        raise OSError("gone")

    metrics.watch("certificate_days_left", "Days.", fail)
    metrics.watch("held_polls", "Polls held.", lambda: 1)
    assert "fleetvisor_held_polls 1.0" in generate_latest(metrics.registry).decode()
