"""HTTP: the Batch AI contract, the newer version, errors, paging, long-running operations."""
