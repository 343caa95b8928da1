"""The command line: what a person types. It may import everything below; nothing imports it."""
