"""The data plane between the processes of one machine: requests and outbox messages on Unix sockets."""
