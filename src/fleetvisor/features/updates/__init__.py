"""Updates: what a device should run, what it reports, and each attempt to close the gap."""
