"""Whether an app is what its manifest says: judged before a byte of it goes to flash. Pure.

The hash of the manifest comes from the desired state, and everything else from the manifest: which layers there are,
their hashes and where they go. A server, a cache or a proxy that mixes two apps is noticed here. It does not check
who signed the manifest: the agent has no key to check with. Spec: ``docs/explanation/agent.md``.
"""

from collections.abc import Sequence
from hashlib import sha256

from fleetvisor.agent.plan import Geometry
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol import manifest
from fleetvisor.protocol.lifecycle import ErrorCode
from fleetvisor.protocol.native import DesiredApp, FlashLayer


def judge_manifest(app: DesiredApp, layers: Sequence[FlashLayer], raw: bytes, geometry: Geometry) -> ErrorCode:
    """Return why ``app`` is refused whose manifest is ``raw``; ``ErrorCode.NONE`` if it is what the manifest says."""
    if sha256(raw).hexdigest() != app.manifest:
        return ErrorCode.HASH_MISMATCH
    limits = Limits(internal_flash_bytes=geometry.internal_bytes, external_flash_bytes=geometry.external_bytes)
    try:
        found = manifest.decode(raw, limits)
    except Invalid:
        return ErrorCode.REFUSED_BY_POLICY
    named = [
        (layer.digest, layer.measurement, layer.region, layer.region_start, layer.region_size) for layer in found.layers
    ]
    asked = [(layer.sha256, layer.measurement, layer.region, layer.region_start, layer.region_size) for layer in layers]
    return ErrorCode.NONE if named == asked else ErrorCode.REFUSED_BY_POLICY


def is_downgrade(app: DesiredApp, counter: int) -> bool:
    """Return whether ``app`` has a security counter below the highest that the device confirmed."""
    return app.security_counter is not None and app.security_counter < counter
