"""Weights in: published files become parameters of ours, every tensor accounted for."""
