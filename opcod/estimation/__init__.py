"""What an experiment will take: time, memory, disk and tokens, from its settings and from what earlier runs took. Free of torch."""
