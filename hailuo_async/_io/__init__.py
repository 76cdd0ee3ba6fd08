"""The only place that touches the world: HTTP, file names, the journal, downloads."""
