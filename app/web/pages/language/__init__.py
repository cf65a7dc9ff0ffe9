"""The switch between languages in the footer of every page."""
