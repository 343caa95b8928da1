"""The bus: a doorbell that says which device's state may have changed; the database is the truth."""
