"""What runs, stores and judges experiments: cells, records, search, curves, intervals, shadow models, Ray."""
