"""Application logging: switched on for a bounded time."""
