"""What an account that ends has is removed."""
