"""Keys and proofs: the local CA, the server certificate, tokens, and secrets at rest."""
