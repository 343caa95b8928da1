"""Configs and secrets: keys and values for devices, per account or per device."""
