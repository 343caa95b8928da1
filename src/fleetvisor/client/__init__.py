"""The typed HTTP client of the REST API: what the command line speaks through."""
