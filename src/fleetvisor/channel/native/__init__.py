"""The edge of the native device protocol, ``/device/v1``."""
