"""The Microvisor REST API: HTTP in, one service call, JSON out."""
