"""The device edges: a folder for each protocol, and what they share; plain ASGI, because a fleet polls without end."""
