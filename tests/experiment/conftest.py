"""Config files of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cot.experiment.compose import EXTRA_CONF


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own config groups, with a name that needs all the quoting there is."""
    folder = tmp_path / "my 'own' c\\onf, #1"
    (folder / "experiment").mkdir(parents=True)
    monkeypatch.setenv(EXTRA_CONF, str(folder))
    return folder
