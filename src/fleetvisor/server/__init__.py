"""The server: the only floor that builds; settings and reality enter here."""
