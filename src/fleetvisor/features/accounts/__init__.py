"""Accounts: who owns everything, and the credentials that prove it."""
