"""The library beside what its users would otherwise use: the same work, in the same run, against the same server."""
