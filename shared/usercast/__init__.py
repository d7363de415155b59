"""What the master and the clients share: the wire contract and the plumbing both need."""
