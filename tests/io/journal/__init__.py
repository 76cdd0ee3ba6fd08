"""The journal's tables: what stands on disk of each job."""
