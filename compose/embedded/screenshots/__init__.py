"""``make screenshots``: the pictures in docs/images, of a system started for them."""
