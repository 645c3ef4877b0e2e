"""Simulated carriers: what a provider talks to when no vendor is at hand. Needs no database and no Django."""
