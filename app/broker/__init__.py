"""What goes through the broker: rings, and requests for answers; and the broker of `vezna up`."""
