"""Prompts of test items, asked of a server, and what a run answered to them."""
