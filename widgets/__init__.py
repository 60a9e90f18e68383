"""Explorers of the notebooks: state, layout and drawing. Every number shown comes from `spear_core`."""
