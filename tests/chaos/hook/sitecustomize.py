"""Python imports this module at its start; with this folder in ``PYTHONPATH`` a fault reaches every
process that a command starts.
"""

import os

if "GESTALT_CHAOS" in os.environ:
    from tests.chaos.faults import arm

    arm()
