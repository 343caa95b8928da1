"""Requests are counted as they are answered; what is answered does not change."""

from prometheus_client import generate_latest

from fleetvisor.obs.metrics import Metrics
from fleetvisor.server.telemetry import counting
from fleetvisor.web.safety import made_safe


async def test_an_answer_passes_unchanged_and_is_counted_once():
    metrics, sent = Metrics({"Apps"}), []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(message):
        sent.append(message)

    await made_safe(app, began=[counting(metrics)])({"type": "http", "path": "/v1/Apps", "method": "POST"}, None, send)
    assert [message["type"] for message in sent] == ["http.response.start"] + ["http.response.body"] * 2
    text = generate_latest(metrics.registry).decode()
    assert 'fleetvisor_requests_total{method="POST",route="v1/Apps",status="201"} 1.0' in text
