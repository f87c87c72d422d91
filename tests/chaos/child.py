"""Run the command line, struck by the fault that ``GESTALT_CHAOS`` names if it is set: ``python
tests/chaos/child.py WORDS...``.
"""

import os
import sys

from tests.chaos.faults import VARIABLE, arm
from tests.chaos.spares import become, stock

if __name__ == "__main__":
    while (request := stock()) is not None:
        become(request)
    if VARIABLE in os.environ:
        arm()
    from gestalt.__main__ import main

    sys.exit(main(sys.argv[1:]))
