"""Fleetvisor, the open Microvisor cloud: manages fleets of devices and the firmware they run."""

__version__ = "0.1.0"
