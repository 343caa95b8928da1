"""Every absolute URL that an answer names, built from the public base URL and never from the socket.

Deliberately string addition only: list pages make two thousand of these. Keys and names are percent-encoded; SIDs
and hashes need none.
"""

from typing import Final
from urllib.parse import quote

_SAFE: Final = "-._~!$&'()*,;=:@"


class Urls:
    """The public URLs. ``base`` is ``https://host[:port]`` with no path and no final slash."""

    __slots__ = ("_errors", "apps", "base", "configs", "devices", "keys", "secrets")

    def __init__(self, base: str) -> None:
        """Prepare the beginnings."""
        self.base = base.rstrip("/")
        self.devices = f"{self.base}/v1/Devices"
        self.apps = f"{self.base}/v1/Apps"
        self.configs = f"{self.base}/v1/Configs"
        self.secrets = f"{self.base}/v1/Secrets"
        self.keys = f"{self.base}/v1/Keys"
        self._errors = f"{self.base}/docs/errors/"

    def more_info(self, code: int) -> str:
        """Return the page that explains an error code."""
        return self._errors + str(code)

    def device(self, device_sid: str) -> str:
        """Return a device's URL."""
        return f"{self.devices}/{device_sid}"

    def device_configs(self, device_sid: str) -> str:
        """Return the URL of a device's configs."""
        return f"{self.devices}/{device_sid}/Configs"

    def device_secrets(self, device_sid: str) -> str:
        """Return the URL of a device's secrets."""
        return f"{self.devices}/{device_sid}/Secrets"

    def device_updates(self, device_sid: str) -> str:
        """Return the URL of a device's updates."""
        return f"{self.devices}/{device_sid}/Updates"

    def update(self, device_sid: str, number: int) -> str:
        """Return the URL of one update of a device."""
        return f"{self.devices}/{device_sid}/Updates/{number}"

    def app(self, app_sid: str) -> str:
        """Return an app's URL."""
        return f"{self.apps}/{app_sid}"

    def app_manifest(self, app_sid: str) -> str:
        """Return the URL of an app's manifest."""
        return f"{self.apps}/{app_sid}/Manifest"

    def rollout(self, rollout_sid: str) -> str:
        """Return the URL of a rollout."""
        return f"{self.base}/v1/Rollouts/{segment(rollout_sid)}"

    def key(self, key_sid: str) -> str:
        """Return an API key's URL."""
        return f"{self.keys}/{key_sid}"


def segment(text: str) -> str:
    """Percent-encode ``text`` so that it stands in a path as one segment."""
    return quote(text, safe=_SAFE)
