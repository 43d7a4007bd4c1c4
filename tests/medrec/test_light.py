"""Reading a model's facts without what trains it."""

import subprocess
import sys

import pytest

from medrec.errors import UnknownPluginError
from medrec.light import model_facts


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_an_unknown_model():
    with pytest.raises(UnknownPluginError, match="Did you mean 'safedrug'"):
        model_facts("safedrugs")


def test_the_facts_name_the_model():
    facts = model_facts("gamenet")
    assert (facts.name, facts.title) == ("gamenet", "GAMENet")
    assert facts.config().dim == 64


def test_torch_can_be_used_afterwards():
    """Placeholders are gone: the real model trains in the process that read the facts."""
    done = python(
        "import sys\n"
        "from medrec.light import model_facts\n"
        "first = model_facts('gamenet')\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "from medrec.models.gamenet import GAMENet, GAMENetConfig\n"
        "assert issubclass(GAMENet, torch.nn.Module)\n"
        "second = model_facts('gamenet')\n"
        "assert second.config is GAMENetConfig\n"
        "assert first.config().model_dump() == second.config().model_dump()\n"
    )
    assert done.returncode == 0, done.stderr


def test_an_error_in_reading_leaves_no_placeholder():
    done = python(
        "import sys\n"
        "from medrec import light, plugins\n"
        "plugins.package_of = lambda model: 'medrec.models'\n"
        "plugins.check = lambda package, name: None\n"
        "try:\n"
        "    light.model_facts('no_such_model')\n"
        "except ModuleNotFoundError:\n"
        "    pass\n"
        "assert not any(isinstance(f, light._InertFinder) for f in sys.meta_path)\n"
    )
    assert done.returncode == 0, done.stderr


def test_settings_read_without_torch_still_refuse():
    done = python(
        "from pydantic import ValidationError\n"
        "from medrec.light import model_facts\n"
        "config = model_facts('safedrug').config\n"
        "for wrong in ({'dim': 0}, {'dimm': 8}, {'global_match': False, 'local_match': False}):\n"
        "    try:\n"
        "        config(**wrong)\n"
        "    except ValidationError:\n"
        "        continue\n"
        "    raise SystemExit(f'{wrong} was taken')\n"
        "assert config(variant='released').molecule_encoder == 'frozen'\n"
        "assert config(controller='threshold').ddi_gain == 0.5\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr
