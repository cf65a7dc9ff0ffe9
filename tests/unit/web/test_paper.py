"""A page as paper: what goes, what stays as it was written, and what becomes words."""

import pytest

from app.web.templating import on_paper

DRAWING = '<svg viewBox="0 0 1 1"><clipPath id="c"/><use href="#k" /></svg>'


@pytest.mark.parametrize(
    ("page", "paper"),
    [
        ("<p>a &amp; b &#8211; c</p>", "<p>a &amp; b &#8211; c</p>"),
        ('<p><a href="/runs/1">run <b>1</b></a>.</p>', "<p>run <b>1</b>.</p>"),
        ('<a href="#arms">Arms</a>', '<a href="#arms">Arms</a>'),
        ('<a class="button quiet" href="/x">Go</a>!', "!"),
        ("<div><form><div><form></form></div><button>x</button></form>y</div>", "<div>y</div>"),
        ('<nav class="toc"><ul><li>a</li></ul></nav>b', "b"),
        ('<div data-screen><div>a</div><div>b</div></div>c', "c"),
        ('<link rel="next" href="/x">a<br>b<input name="q">c', "a<br>bc"),
        ("<details><summary>Numbers</summary>1</details>", "<details open><summary>Numbers</summary>1</details>"),
        ("<details open>1</details>", "<details open>1</details>"),
        ('<p hx-get="/x" sse-swap="y" class="z &quot;">a</p>', '<p class="z &quot;">a</p>'),
        (DRAWING, DRAWING),
        ("<p>&lt;script&gt;x&lt;/script&gt;</p>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
        ("<script>alert(1)</script>a", "a"),
    ],
)  # fmt: skip
def test_what_needs_a_server_goes_and_the_rest_stays(page: str, paper: str) -> None:
    assert on_paper(page) == paper
