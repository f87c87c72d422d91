"""The command line: one file per command; ``arguments`` has the table of commands, and the files
``*_words`` their flags and the checks that need no torch.
"""
