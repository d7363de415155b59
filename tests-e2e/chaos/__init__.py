"""``make chaos``: the whole system under load, while its parts are killed and cut off at random."""
