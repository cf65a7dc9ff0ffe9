"""Recipes: the list with its latest results, a page for each, and its submission."""
