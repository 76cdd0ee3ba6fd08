"""The only place that waits: for a slot, for a request, for the next query."""
