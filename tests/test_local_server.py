"""A folder at a URL of this machine."""

from urllib.error import URLError
from urllib.request import urlopen

import pytest

from course_utils.local_server import serving


def test_files_are_served_while_the_block_runs_and_not_after(tmp_path, capfd):
    (tmp_path / "page.txt").write_text("seen", encoding="utf-8")
    with serving(tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        assert urlopen(f"{address}/page.txt", timeout=10).read() == b"seen"
    with pytest.raises(URLError):
        urlopen(f"{address}/page.txt", timeout=2)
    assert capfd.readouterr().err == ""
