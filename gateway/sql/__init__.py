"""`POST /query`: SQL over what the store holds, in a process of its own.

The server's side (endpoint, workers, reading) never loads DataFusion; the worker's side (worker, engine
and what they use) never sees the store, the file system or the network: it asks for rows over its pipe.
Dialect, tables and encodings: spec introspection.md; docs/sql.md tells users.
"""
