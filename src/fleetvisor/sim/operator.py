"""The operator of a simulated world: bundles, and what is done with them through the REST API.

Everything goes through ``/v1``, as an operator's own program would do it. The operator writes down what it asked for,
*before* it asks, because the devices may be quicker than the answer: that is what the checks hold the devices to.
Deliberately meets no bad weather: the API's own tests are for that.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from fleetvisor.agent.wire import Request, Response
from fleetvisor.protocol import manifest as manifests
from fleetvisor.protocol import pack
from fleetvisor.protocol.manifest import Policies
from fleetvisor.sim.loop import SeededEntropy
from fleetvisor.sim.network import Network

_BOUNDARY: Final = "----simulated-world"
_ANSWER_BYTES_MAX: Final = 1 << 22


class Refused(Exception):
    """The API answered with an error."""

    def __init__(self, response: Response) -> None:
        """Keep the status and the body."""
        super().__init__(f"{response.status}: {response.body[:300]!r}")
        self.status = response.status


@dataclass(frozen=True, slots=True)
class Part:
    """What one region of the flash must hold while the app runs."""

    region: str
    start: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Firmware:
    """An app as uploaded: where each byte of it belongs."""

    sid: str
    name: str
    manifest: str
    parts: tuple[Part, ...]


def make_bundle(name: str, entropy: SeededEntropy, *, politeness_s: int = 0) -> tuple[bytes, str, tuple[Part, ...]]:
    """Make a small bundle of two or three layers at uneven offsets; return it, its manifest's hash and its parts."""
    chance = entropy.random
    layout = [("internal", 0, chance.randrange(100, 700), 700), ("internal", 700, chance.randrange(1, 300), 324)]
    if chance.random() < 0.7:
        layout.append(("external", chance.randrange(0, 64), chance.randrange(1, 200), 300))
    layers, contents = list[manifests.LayerReference](), list[bytes]()
    parts: list[Part] = []
    for region, start, size, room in layout:
        content = (name.encode() + entropy.token(size))[:size]
        where: manifests.Region = "internal" if region == "internal" else "external"
        layers.append(pack.layer(content, region=where, start=start, size=room))
        contents.append(content)
        parts.append(Part(region, start, content.ljust(room, b"\xff")))
    raw = manifests.encode(layers, Policies(politeness_s=politeness_s))
    return pack.write(raw, contents), hash_of(raw), tuple(parts)


def hash_of(raw_manifest: bytes) -> str:
    """Return an app's identity: the hex SHA-256 of its manifest entry."""
    import hashlib

    return hashlib.sha256(raw_manifest).hexdigest()


class Operator:
    """Calls the REST API, and remembers what it asked for."""

    def __init__(self, network: Network, account_sid: str, auth_token: str, entropy: SeededEntropy) -> None:
        """Work for one account."""
        proof = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._headers = {"authorization": f"Basic {proof}"}
        self._network = network
        self._entropy = entropy
        self.uploaded: dict[str, Firmware] = {}
        self.available: list[Firmware] = []
        self.assigned: dict[str, set[str]] = {}

    async def call(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        content_type: str = "",
    ) -> Any:  # noqa: ANN401  (JSON is any)
        """Make one request; give its JSON. Raises ``Refused``."""
        headers = dict(self._headers)
        if form is not None:
            body, content_type = urlencode(form).encode(), "application/x-www-form-urlencoded"
        if content_type:
            headers["content-type"] = content_type
        request = Request(method, path, {}, body, _ANSWER_BYTES_MAX, 60)
        response = await self._network.exchange(request, headers)
        if response.status >= 400:
            raise Refused(response)
        return msgspec.json.decode(response.body) if response.body else None

    async def register(self, name: str) -> tuple[str, str]:
        """Register a device; give its SID and its token."""
        device = await self.call("POST", "/v1/Devices", {"UniqueName": name})
        self.assigned[device["sid"]] = set()
        return device["sid"], device["device_token"]

    async def upload(self, name: str, *, politeness_s: int = 0) -> Firmware:
        """Make and upload a bundle."""
        bundle, manifest, parts = make_bundle(name, self._entropy, politeness_s=politeness_s)
        file = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="File"; filename="b.zip"\r\n\r\n'.encode()
        named = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="UniqueName"\r\n\r\n{name}\r\n'.encode()
        body = named + file + bundle + f"\r\n--{_BOUNDARY}--\r\n".encode()
        app = await self.call("POST", "/v1/Apps", body=body, content_type=f"multipart/form-data; boundary={_BOUNDARY}")
        firmware = Firmware(app["sid"], name, manifest, parts)
        self.uploaded[manifest] = firmware
        self.available.append(firmware)
        return firmware

    async def delete(self, firmware: Firmware) -> None:
        """Delete an app; what devices hold of it stays uploaded as far as the checks go."""
        await self.call("DELETE", f"/v1/Apps/{firmware.sid}")
        self.available.remove(firmware)

    async def target(self, device_sid: str, firmware: Firmware) -> None:
        """Make ``firmware`` the device's target."""
        self.assigned[device_sid].add(firmware.manifest)
        await self.call("POST", f"/v1/Devices/{device_sid}", {"TargetApp": firmware.sid})

    async def change(self, device_sid: str, **form: str) -> None:
        """Change a device otherwise."""
        await self.call("POST", f"/v1/Devices/{device_sid}", form)

    async def device(self, device_sid: str) -> dict[str, Any]:
        """Return a device as the API shows it."""
        return await self.call("GET", f"/v1/Devices/{device_sid}")
