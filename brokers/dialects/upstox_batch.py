"""Upstox's multi-place: one answer for many lines, in two phases.

First the whole batch is checked, and one bad line stops all of it: nothing was taken. Then each line goes its own way
and has an entry in `data` or in `errors`, by its correlation id. That id lives for one request only; ours is the tag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from brokers.answers import order_id_of, text_of
from brokers.dialects.meanings import is_doubtful
from brokers.dialects.upstox import Error, errors_of, outcome_of_error, outcome_of_errors
from brokers.dialects.upstox_errors import MULTI_PLACE_ERRORS
from brokers.transport import Answer, Answered
from domain.outcomes import Accepted, NotSent, Outcome, Refused, Unknown


def outcomes_of_batch(
    tags: Sequence[str], answer: Answer, send_again: Callable[[Sequence[str]], Answer]
) -> list[Outcome]:
    """One outcome per line, by its tag. When bad lines stopped the batch, the others are sent once more without them."""
    refused = stopped_by(answer, tags)
    if not refused:
        outcomes = _outcomes_by_line(answer, tags)
    else:
        others = [tag for tag in tags if tag not in refused]
        outcomes = {**refused, **_outcomes_of_others(others, send_again)}
    return [outcomes[tag] for tag in tags]


def _outcomes_of_others(tags: Sequence[str], send_again: Callable[[Sequence[str]], Answer]) -> dict[str, Outcome]:
    if not tags:
        return {}
    answer = send_again(tags)
    refused = stopped_by(answer, tags)
    if not refused:
        return _outcomes_by_line(answer, tags)
    return {tag: refused.get(tag) or NotSent("the whole batch was refused for other lines, twice") for tag in tags}


def stopped_by(answer: Answer, tags: Sequence[str]) -> dict[str, Refused]:
    """The lines whose payload stopped the whole batch; none if the batch wasn't stopped, or its words leave a doubt.

    What proves it is the summary, by which nothing of the batch was looked at further, and not a line's code.
    """
    match answer:
        case Answered(
            400, {"status": "error", "summary": {"payload_error": int(count), "success": 0} as summary} as body
        ):
            errors = errors_of(body)
            is_sure = not (summary.get("error") or body.get("data") or any(is_doubtful(e.message) for e in errors))
            if count > 0 and is_sure:
                by_line = _by_line(errors)
                return {
                    tag: Refused(found[0].code, "; ".join(error.message for error in found))
                    for tag in tags
                    if (found := by_line.get(tag))
                }
    return {}


def _outcomes_by_line(answer: Answer, tags: Sequence[str]) -> dict[str, Outcome]:
    if not isinstance(answer, Answered) or answer.status not in (200, 207, 400) or not isinstance(answer.body, Mapping):
        return dict.fromkeys(tags, outcome_of_error(answer, MULTI_PLACE_ERRORS))
    order_ids: dict[object, list[str | None]] = {}
    data = answer.body.get("data")
    for row in data if isinstance(data, list) else ():
        if isinstance(row, Mapping):
            order_ids.setdefault(text_of(row.get("correlation_id")), []).append(order_id_of(row.get("order_id")))
    errors = _by_line(errors_of(answer.body))
    if answer.status == 400 and not order_ids and not errors.keys() & set(tags):  # an error of the request itself
        return dict.fromkeys(tags, outcome_of_error(answer, MULTI_PLACE_ERRORS))
    return {tag: _outcome_of_line(order_ids.get(tag, []), errors.get(tag, []), answer) for tag in tags}


def _outcome_of_line(order_ids: Sequence[str | None], errors: Sequence[Error], answer: Answered) -> Outcome:
    match order_ids, errors:
        case [str(broker_order_id)], []:
            return Accepted(broker_order_id)
        case [], [_, *_]:
            return outcome_of_errors(errors, MULTI_PLACE_ERRORS, answer)
    return Unknown(f"{answer.status}: {len(order_ids)} ids and {len(errors)} errors for the line")


def _by_line(errors: Sequence[Error]) -> dict[str | None, list[Error]]:
    found: dict[str | None, list[Error]] = {}
    for error in errors:
        found.setdefault(error.correlation_id, []).append(error)
    return found
