"""A model can be loaded and used without Lightning."""

import subprocess
import sys


def test_model_checkpoint_and_api_import_no_lightning():
    code = (
        "import sys, gestalt.building.model, gestalt.building.targets, gestalt.api\n"
        "heavy = {name.partition('.')[0] for name in sys.modules} & {'lightning', "
        "'pytorch_lightning', 'torchmetrics', 'matplotlib'}\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
