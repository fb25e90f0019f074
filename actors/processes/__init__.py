"""The supervised tree of OS processes: watchdog, Thespian Admin, supervisor, workers.

Nothing about invocations, HTTP or stores is known here; what a worker does is given by import path.
"""
