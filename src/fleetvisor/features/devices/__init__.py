"""Devices: boards by SID and name, their tokens, and the one change that composes the rest."""
