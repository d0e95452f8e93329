"""Measures: fidelity to a reference run, distance between sets, intervals, time and operations."""
