"""What the edges share: reading requests, answers, the problem body, ETag and Range, public URLs, credentials."""
