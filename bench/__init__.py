"""Speed, as ratios to nginx in the same run on the same core; ``python -m bench`` prints and writes them."""
