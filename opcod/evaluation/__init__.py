"""Accuracy with intervals, the Pareto verdict, break and rescue rates."""
