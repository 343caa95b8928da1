"""Identity: how devices are born, what proves them, and how that is revoked."""
