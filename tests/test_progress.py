"""Progress where there is no terminal: lines on standard error, each once."""

from nemo_cot.progress import read_progress, track


def test_the_last_line_is_printed_once_and_the_file_tells_the_same(tmp_path, capsys):
    with track("grade", 2, "answers", tmp_path) as progress:
        progress.update(2)
        progress.update(2)
        progress.update(3, total=3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["2/2", "3/3"]
    assert read_progress(tmp_path).done == 3


def test_the_time_that_is_left_is_not_said_before_the_first_unit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nemo_cot.progress._LINE_EVERY_SECONDS", 0.0)
    with track("sample", 4, "answers", tmp_path, done=1) as progress:
        progress.update(1, speed="9 tokens/s")
        progress.update(2)
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first.strip() == "sample: 1/4 answers  speed 9 tokens/s" and second.endswith("s left")
