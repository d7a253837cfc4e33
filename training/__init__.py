"""Trains and measures longhaul's demo model."""
