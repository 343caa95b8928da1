"""Why a Device runs what it runs (extension), and the penalties that hold it back."""

from fleetvisor.api.rollout_shapes import ExplanationShape, PenaltiesShape, explanation_shape, penalties_shape
from fleetvisor.api.routes import Call, Route
from fleetvisor.features.devices.service import Devices
from fleetvisor.features.explain.explainer import Explainer
from fleetvisor.features.rollouts.penalties import Penalties
from fleetvisor.ground.sids import normalize
from fleetvisor.web.answers import Answer, json_answer


class ExplainingHandlers:
    """What the paths of explanations and penalties do."""

    def __init__(self, *, explainer: Explainer, penalties: Penalties, devices: Devices) -> None:
        """Keep the services."""
        self._explainer = explainer
        self._penalties = penalties
        self._devices = devices

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags = ("MicrovisorV1Device",)
        of = "/v1/Devices/{DeviceSid}"
        return [
            Route(
                "GET", f"{of}/Explain", "ExplainDevice", "Explain what a Device runs, why, and what it waits for.",
                self._explain, ExplanationShape, extension=True, tags=tags,
            ),
            Route(
                "GET", f"{of}/Penalties", "FetchDevicePenalties", "List the Apps that a Device failed.", self._list,
                PenaltiesShape, extension=True, tags=tags,
            ),
            Route(
                "DELETE", f"{of}/Penalties/{{AppSid}}", "DeleteDevicePenalty", "Let Rollouts offer an App again.",
                self._release, status=204, errors=(401, 404, 429), extension=True, tags=tags,
            ),
        ]  # fmt: skip

    async def _explain(self, call: Call) -> Answer:
        return json_answer(explanation_shape(await self._explainer.explain(call.caller.account_sid, call.args[0])))

    async def _list(self, call: Call) -> Answer:
        account_sid = call.caller.account_sid
        device_sid = await self._devices.resolve(account_sid, call.args[0])
        return json_answer(penalties_shape(device_sid, await self._penalties.list(account_sid, device_sid)))

    async def _release(self, call: Call) -> Answer:
        account_sid, app_sid = call.caller.account_sid, call.args[1]
        device_sid = await self._devices.resolve(account_sid, call.args[0])
        await self._penalties.release(account_sid, device_sid, normalize(app_sid))
        return Answer(204)
