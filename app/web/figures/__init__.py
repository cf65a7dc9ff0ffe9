"""Figures of studies, runs, datasets and models: one file a figure, with its data, chart, sentences and table."""
