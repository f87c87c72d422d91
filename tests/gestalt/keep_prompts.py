"""Run the command line with the cache of prompts in use from the first prompt on: ``python
tests/gestalt/keep_prompts.py WORDS...``.
"""

import sys

from gestalt.__main__ import main
from gestalt.measures.evaluation import prompts

if __name__ == "__main__":
    prompts.LARGE = 1
    sys.exit(main(sys.argv[1:]))
