"""Recipes: published claims as studies, one YAML file each, and published results that they refer to. No code."""
