"""The database: a port, and its adapters for SQLite and PostgreSQL."""
