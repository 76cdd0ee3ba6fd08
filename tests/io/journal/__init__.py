"""The journal's ledger: what stands on disk of each job."""
