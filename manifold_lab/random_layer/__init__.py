"""One random layer on a low-dimensional manifold: x -> Tx -> activation -> decoder, drawn many times."""
