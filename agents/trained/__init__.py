"""Trained networks as controllers: layers, action heads, policy files, export. Needs torch, not Ray."""
