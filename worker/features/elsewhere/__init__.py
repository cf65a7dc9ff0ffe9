"""Exports of studies to the experiment tracker of the installation."""
