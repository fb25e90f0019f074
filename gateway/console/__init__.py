"""The console: pages for people at /ui on the admin port, and the small read API behind them."""
