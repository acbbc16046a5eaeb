"""The command line, on the client.

Nothing is imported before it is needed: ``trainshed --help`` loads click alone, a listing adds the client.
"""
