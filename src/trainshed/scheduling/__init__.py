"""Who runs next and where. Pure: a snapshot of values in, decisions and explanations out."""
