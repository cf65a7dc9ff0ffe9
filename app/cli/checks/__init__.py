"""The checks of `vezna doctor`."""
