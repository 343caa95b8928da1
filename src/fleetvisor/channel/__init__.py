"""The device edge: what agents speak with the server; plain ASGI, because a fleet polls without end."""
