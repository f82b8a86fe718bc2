"""The ledger: what each run asked, in what order, and what it saved, in logs beside the entries."""
