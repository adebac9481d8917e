"""Questions that people bring: files are received, their columns mapped, their faults shown and mended, and a domain is kept of them."""
