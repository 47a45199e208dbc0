"""Records, the ledger, audits and crates."""
