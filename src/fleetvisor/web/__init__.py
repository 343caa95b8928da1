"""What the edges share: requests read within bounds, answers, problems, conditions, URLs, credentials."""
