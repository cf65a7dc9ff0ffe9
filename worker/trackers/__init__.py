"""Exports of ended studies to the experiment tracker of the installation."""
