"""A model goes to the hub and comes back by the hub's own methods; a local fake stands for the
hub.
"""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

import gestalt
from gestalt.models.folder import HubModel, read_description
from tests.gestalt.test_api import same_weights
from tests.gestalt.tiny_model import export, tiny

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "hf_secretsecretsecretsecret"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in which the repositories of a fake hub lie; ``asked`` keeps each call with its
    token.
    """
    root, asked = tmp_path / "hub", []

    class Api:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, *, repo_id, private, exist_ok):
            asked.append(("create", repo_id, private, self.token))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **choices):
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}"

    def download(repo_id, *, token=None, allow_patterns=(), **choices):
        asked.append(("download", repo_id, sorted(allow_patterns), token))
        if not (root / repo_id).is_dir():
            raise OSError(f"401 Client Error: {repo_id} is missing or private")
        copy = tmp_path / "cache" / repo_id
        shutil.copytree(root / repo_id, copy, dirs_exist_ok=True)
        return str(copy)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr("gestalt.encoders.weights._unreachable", lambda endpoint: "")
    # whatever the environment of the tests says
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return SimpleNamespace(root=root, asked=asked)


@pytest.fixture
def folder(tmp_path):
    path = export(tmp_path / "exported")
    (path / "README.md").write_text("---\nlibrary_name: gestalt\n---\n\n# tiny\n")
    return path


def test_a_pushed_model_can_be_loaded_by_its_name(hub, folder):
    model = HubModel.from_pretrained(folder)
    assert model.push_to_hub("org/tiny", private=True) == "https://hub/org/tiny"
    pulled = HubModel.from_pretrained("org/tiny")
    assert same_weights(pulled.encoder, tiny()[0])
    assert same_weights(gestalt.load("org/tiny", "cpu").encoder, tiny()[0])
    assert pulled.card == (folder / "README.md").read_text()
    assert read_description(hub.root / "org/tiny") == read_description(folder)
    files = ["README.md", "config.json", "model.safetensors", "text/*"]
    assert hub.asked[:2] == [
        ("create", "org/tiny", True, None),
        ("download", "org/tiny", files, None),
    ]


def test_the_example_of_the_page_runs(hub, folder, monkeypatch):
    code, _ = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/publishing.md").read_text(), flags=re.DOTALL
    )
    monkeypatch.chdir(folder.rename(folder.parent / "my-model").parent)
    exec(code, {})
    assert (hub.root / "org/my-model/model.safetensors").is_file()


def test_a_model_missing_on_the_hub_is_reported_without_the_token(hub):
    with pytest.raises(
        ValueError,
        match="org/absent: neither a file or folder here, nor a model that the hub gives: 401",
    ) as raised:
        HubModel.from_pretrained("org/absent", token=TOKEN)
    assert TOKEN not in str(raised.value)


def test_a_token_is_sent_to_the_hub_and_never_stored_or_logged(hub, folder, capfd, caplog):
    model = HubModel.from_pretrained(folder)
    model.push_to_hub("org/tiny", token=TOKEN)
    HubModel.from_pretrained("org/tiny", token=TOKEN).save_pretrained(folder.parent / "again")
    assert [call[-1] for call in hub.asked] == [TOKEN, TOKEN]
    places = [hub.root, folder, folder.parent / "again"]
    assert not [
        path
        for place in places
        for path in Path(place).rglob("*")
        if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert TOKEN not in "".join(capfd.readouterr()) + caplog.text
