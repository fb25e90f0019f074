"""The service protocol's frames and messages, to and from the journal's entries. Pure."""
