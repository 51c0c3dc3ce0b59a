"""Any write to PostgreSQL, by any program, reaches Flask handlers and browsers: live, complete, in order."""

__version__ = "0.1.0"
