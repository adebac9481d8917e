"""Students: loading, adapters, moving averages, supervised fine-tuning, export."""
