"""Speed, as ratios to nginx and gooseBit in the same run on one core; ``python -m bench`` prints and writes them."""
