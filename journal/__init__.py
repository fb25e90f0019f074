"""What is true: entries, ids, keys, the pure machines, and the store. Imports no other room."""
