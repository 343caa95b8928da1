"""Apps: uploaded firmware bundles, their layers and their removal."""
