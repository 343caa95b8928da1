"""Every URL that stands in an answer, built from the public base URL and never from the socket."""

from urllib.parse import quote


class Urls:
    """URLs under one public base, ``https://host:port`` without a path."""

    def __init__(self, base: str) -> None:
        """Take the base, with or without its final slash."""
        self.base = base.rstrip("/")
        self._devices = f"{self.base}/v1/Devices/"
        self._apps = f"{self.base}/v1/Apps/"

    def path(self, path: str) -> str:
        """Give the URL of an absolute path that needs no quoting."""
        return self.base + path

    def device(self, device_sid: str) -> str:
        """Give a device's URL, by SID."""
        return self._devices + device_sid

    def app(self, app_sid: str) -> str:
        """Give an app's URL, by SID."""
        return self._apps + app_sid

    def entry(self, device_sid: str | None, store: str, key: str) -> str:
        """Give the URL of a config or secret; ``store`` is ``Configs`` or ``Secrets``."""
        owner = self._devices + device_sid if device_sid else f"{self.base}/v1"
        return f"{owner}/{store}/{quote(key, safe='')}"

    def error(self, code: int) -> str:
        """Give the page that explains an error code."""
        return f"{self.base}/docs/errors/{code}"
