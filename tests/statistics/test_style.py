"""Style counts against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.style import style_differences, style_of

ANSWER = """# Title
## Part
Some **bold** text, __this too__ and **over
two lines**.
- one
* two
  + nested
1. first
12. twelfth
#hashtag
-no item
3.14 is no item
#### Deep ####
```python
# comment
- x
**kwargs**
```
"""


def test_markdown_is_counted_as_by_hand_and_code_does_not_count() -> None:
    found = style_of(ANSWER, 99)
    assert (found.headers, found.lists, found.bold) == (3, 5, 2)
    assert (found.characters, found.tokens) == (len(ANSWER), 99)
    assert found.row == (99, 3, 5, 2)


@pytest.mark.parametrize(
    ("text", "headers", "lists", "bold"),
    [
        ("", 0, 0, 0),
        ("####### seven", 0, 0, 0),
        (" # indented", 0, 0, 0),
        ("a ** b ** c", 0, 0, 1),
        ("****", 0, 0, 0),
        ("-", 0, 0, 0),
        ("\n\n- a\n\n\n- b", 0, 2, 0),
        ("```\n# a\n```\n# b\n```\n# c", 1, 0, 0),  # the last block was cut off
        ("`# a`\n# b", 1, 0, 0),
        ("# a\r\n- b\r\n", 1, 1, 0),
    ],
)
def test_odd_texts_are_counted_as_by_hand(text: str, headers: int, lists: int, bold: int) -> None:
    found = style_of(text, 1)
    assert (found.headers, found.lists, found.bold) == (headers, lists, bold)


def test_differences_are_those_of_a_hand_and_turn_round_with_the_answers() -> None:
    first, second = np.array([[100.0, 2, 0, 4], [0, 0, 0, 0]]), np.array([[50.0, 0, 5, 4], [0, 0, 0, 0]])
    got = style_differences(first, second)
    np.testing.assert_allclose(got[0], [50 / 150, 0.02 / 1.02, -0.1 / 1.1, (0.04 - 0.08) / 1.12])
    np.testing.assert_array_equal(got[1], 0)
    np.testing.assert_array_equal(style_differences(second, first), -got)
