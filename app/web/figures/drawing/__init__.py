"""Figures: pure functions from data to Altair charts, and from charts to SVG and PNG."""
