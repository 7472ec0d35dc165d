"""What runs, stores and judges experiments."""
