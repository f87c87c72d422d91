"""The command line: one file a command; ``arguments`` has the table, ``early`` the checks before
torch is imported.
"""
