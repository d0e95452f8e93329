"""The learned forecast's network."""
