"""The App resource: upload, list, fetch, remove, and the manifest as it was uploaded."""

from base64 import b64encode
from pathlib import Path

from fleetvisor.api import paging, uploads
from fleetvisor.api.routes import Call, Route
from fleetvisor.api.shapes import AppShape, ManifestShape, app_shape
from fleetvisor.features.apps.service import Apps
from fleetvisor.ground.clock import Entropy
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.offload import Offload
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.urls import Urls


class AppHandlers:
    """What the App paths do."""

    def __init__(
        self, *, apps: Apps, limits: Limits, urls: Urls, entropy: Entropy, spool: Path, offload: Offload
    ) -> None:
        """Keep the service, and where uploads are spooled."""
        self._apps = apps
        self._limits = limits
        self._urls = urls
        self._entropy = entropy
        self._spool = spool
        self._offload = offload

    def routes(self) -> list[Route]:
        """Return the operations."""
        tags = ("MicrovisorV1App",)
        one = "/v1/Apps/{Sid}"
        return [
            Route(
                "POST", "/v1/Apps", "CreateApp", "Upload a bundle or other firmware as a new App.", self._create,
                AppShape, status=201, params=uploads.PARAMS, errors=(400, 401, 409, 413, 415, 429), upload=True,
                extension=True, tags=tags,
            ),
            Route(
                "GET", "/v1/Apps", "ListApp", "Retrieve a list of all Apps of the account.", self._list, AppShape,
                "apps", errors=(400, 401, 429), tags=tags,
            ),
            Route("GET", one, "FetchApp", "Fetch a specific App.", self._fetch, AppShape, tags=tags),
            Route(
                "DELETE", one, "DeleteApp", "Delete a specific App.", self._delete, status=204,
                errors=(401, 404, 409, 429), tags=tags,
            ),
            Route(
                "GET", "/v1/Apps/{AppSid}/Manifest", "FetchAppManifest", "Retrieve the Manifest of an App.",
                self._manifest, ManifestShape, tags=tags,
            ),
        ]  # fmt: skip

    async def _create(self, call: Call) -> Answer:
        spooled = self._spool / f"upload-{self._entropy.token(16).hex()}"
        try:
            upload = await uploads.receive(call.request, spooled, self._limits, self._offload)
            app = await self._apps.create(call.caller.account_sid, spooled, upload)
        finally:
            await self._offload(lambda: spooled.unlink(missing_ok=True))
        return json_answer(app_shape(app, self._urls), 201)

    async def _list(self, call: Call) -> Answer:
        name = paging.ListName("/v1/Apps", call.caller.account_sid, "apps", (int, str))
        asked = paging.parse_paging(call.request.query(), name, self._limits)
        page = await self._apps.list(call.caller.account_sid, asked.request)
        shapes = [app_shape(app, self._urls) for app in page.items]
        return json_answer(paging.envelope(page, shapes, asked, name, self._urls.base))

    async def _fetch(self, call: Call) -> Answer:
        app = await self._apps.get(call.caller.account_sid, call.args[0])
        return json_answer(app_shape(app, self._urls))

    async def _delete(self, call: Call) -> Answer:
        await self._apps.delete(call.caller.account_sid, call.args[0])
        return Answer(204)

    async def _manifest(self, call: Call) -> Answer:
        found = await self._apps.manifest(call.caller.account_sid, call.args[0])
        url = self._urls.app_manifest(found.app_sid)
        encoded = b64encode(found.manifest).decode()
        return json_answer(ManifestShape(found.app_sid, f"sha256:{found.manifest_hash}", encoded, url))
