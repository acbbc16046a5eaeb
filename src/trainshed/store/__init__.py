"""Durable state: tables, migrations and queries, on SQLite (WAL) or PostgreSQL.

``Database`` opens it and runs functions that take a connection; the modules named by a noun (``jobs``, ``attempts``,
``clusters`` ...) hold those functions. Rows go in and come out as the values of ``records``.
"""
