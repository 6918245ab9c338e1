"""The examples of README.md, run against a real gateway."""

import doctest
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_of_the_readme_give_their_output(gateway: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "book.txt").write_text("A book.\n\nNothing in the world is as soft as water.\n")
    monkeypatch.chdir(tmp_path)
    # The examples name the default address.
    source = README.read_text().replace("http://127.0.0.1:7300", gateway)
    test = doctest.DocTestParser().get_doctest(source, {}, "README.md", str(README), 0)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert results.attempted > 10 and results.failed == 0
