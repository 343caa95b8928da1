"""What a clock that was wrong left behind."""
