"""Programs that `benchmarks/speed.py` and `benchmarks/time_to_quality.py` measure, each in a process of its own."""
