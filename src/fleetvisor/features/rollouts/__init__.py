"""Rollouts: an app offered to a selection of devices, in waves, under a guard."""
