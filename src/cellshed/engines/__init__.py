"""Engines: programs that compute a network's maps, torch itself among them."""
