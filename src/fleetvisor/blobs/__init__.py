"""Blobs: bytes by name, durable once they are put."""
