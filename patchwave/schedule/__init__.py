"""What a wave would do and when: what is pending, batches, durations, due times, and what misses them."""
