"""Worlds and swarms: the server and many devices in one process, on virtual time from a seed, or on the real clock."""
