"""Replies as an override gets them: a list that is drawn as it is gone through."""

from typing import Any

from caafp_app.runner.opened import Replies


def test_replies_may_be_used_inside_their_own_loop() -> None:
    drawn: list[int] = []
    source: Any = (drawn.append(k) or k for k in range(4))
    replies = Replies(source)
    assert next(iter(replies)) == 0
    assert drawn == [0]  # no more than was asked for
    met = [(one, other) for one in replies for other in replies]
    assert met == [(one, other) for one in range(4) for other in range(4)]
    source = iter(range(4))
    counted = Replies(source)
    assert [(one, len(counted), counted[0], counted[1:3]) for one in counted] == [
        (one, 4, 0, [1, 2]) for one in range(4)
    ]
