"""The only places that touch the world: the network, the disk, the journal."""
