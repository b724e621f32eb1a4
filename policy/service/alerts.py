"""What Azure Monitor refuses of alerts, of receivers, and of workbooks."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta

from policy.declared import Props
from policy.service.logs import LIMITS
from policy.service.registry import refuses
from policy.service.values import at, elapsed, items, number, objects, outside, plain

ALERT = "monitor:ScheduledQueryRule"
GROUP = "monitor:ActionGroup"
WORKBOOK = "applicationinsights:Workbook"

_LEARN = "https://learn.microsoft.com/azure/azure-monitor"
RULES = f"{_LEARN}/alerts/alerts-create-log-alert-rule"
GROUPS = f"{_LEARN}/alerts/action-groups"
REST = "https://learn.microsoft.com/rest/api/monitor/scheduled-query-rules/create-or-update"
_SPECS = "https://github.com/Azure/azure-rest-api-specs/issues"

GRAINS = (5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440, 2880)
EVERY = (1, 5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440)
OPERATORS = ("Equals", "GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual")
AGGREGATIONS = ("Count", "Average", "Minimum", "Maximum", "Total")


def _minutes(value: object) -> float | None:
    found = elapsed(value)
    return found.total_seconds() / 60 if found is not None else None


def _conditions(props: Props) -> list[Props]:
    return objects(at(props, "criteria", "allOf"))


@refuses(ALERT, source=REST)
def alerts_look_as_often_as_the_service_does(props: Props) -> Iterator[str]:
    """Queries run every minute, 5 to 45 minutes, 1 to 6 hours or day; every minute over one minute only."""
    every, size = props.get("evaluationFrequency"), props.get("windowSize")
    if _minutes(every) not in EVERY:
        yield f"evaluationFrequency is {every!r}: set such as PT5M, PT15M, PT1H or P1D"
    elif _minutes(size) == 1 and _minutes(every) != 1:
        yield f"windowSize is PT1M and evaluationFrequency {every}: set PT1M for both"


@refuses(ALERT, source=f"{_SPECS}/21258")
def alerts_look_back_over_a_known_stretch(props: Props) -> Iterator[str]:
    """A query looks back over 5 to 45 minutes, 1 to 6 hours, one day or two."""
    if _minutes(size := props.get("windowSize")) not in (1, *GRAINS):
        yield f"windowSize is {size!r}: set such as PT5M, PT15M, PT1H, P1D or P2D"


@refuses(ALERT, source=RULES)
def alerts_miss_no_minute(props: Props) -> Iterator[str]:
    """What is looked at together is no shorter than the time between two looks, and no longer than two days."""
    every, size = _minutes(props.get("evaluationFrequency")), _minutes(props.get("windowSize"))
    for one in _conditions(props):
        periods = number(at(one, "failingPeriods", "numberOfEvaluationPeriods")) or 1
        if every and size and not every <= size * periods <= 2880:
            yield f"{periods:g} periods of {size:g} min looked at every {every:g} min: reach that, and 2880 at most"


@refuses(ALERT, source=RULES)
def alerts_count_up_to_six_periods(props: Props) -> Iterator[str]:
    """An alert fires after 1 to 6 periods, of which no more may fail than there are."""
    for one in _conditions(props):
        periods, failing = (
            at(one, "failingPeriods", key) for key in ("numberOfEvaluationPeriods", "minFailingPeriodsToAlert")
        )
        if outside(periods, 1, 6):
            yield f"numberOfEvaluationPeriods is {plain(periods)}: set 1 to 6"
        elif outside(failing, 1, number(periods) or 1):
            yield f"minFailingPeriodsToAlert is {plain(failing)}, more than the periods: set 1 to {plain(periods or 1)}"


@refuses(ALERT, source=f"{_SPECS}/22055")
def alerts_are_muted_or_resolve_themselves(props: Props) -> Iterator[str]:
    """Muting excludes automatic resolution, and lasts as long as the service can and no shorter than a look."""
    if (text := props.get("muteActionsDuration")) is None:
        return
    mute, every = _minutes(text), _minutes(props.get("evaluationFrequency"))
    if props.get("autoMitigate") is not False:
        yield "muteActionsDuration stands beside autoMitigate: set autoMitigate to false"
    if mute not in GRAINS:
        yield f"muteActionsDuration is {text!r}: set such as PT5M, PT1H or P1D"
    elif every and mute < every:
        yield f"muteActionsDuration is {text}, less than evaluationFrequency: make it as long at least"


@refuses(ALERT, source=RULES)
def alerts_are_of_one_scope_and_severity(props: Props) -> Iterator[str]:
    """A rule looks at one resource; its severity is 0 to 4."""
    if (count := len(items(props.get("scopes")))) != 1:
        yield f"scopes has {count} resources: name one"
    if number(severity := props.get("severity")) not in (0, 1, 2, 3, 4):
        yield f"severity is {plain(severity)}: set 0 to 4"


@refuses(ALERT, source=REST)
def alerts_compare_by_a_known_word(props: Props) -> Iterator[str]:
    """The service's words; the SDK's enumeration ConditionOperator is another service's."""
    for one in _conditions(props):
        if (operator := one.get("operator")) not in OPERATORS:
            yield f"operator is {operator!r}: choose of {', '.join(OPERATORS)}"
        if number(one.get("threshold")) is None:
            yield "threshold is missing: set a number"


@refuses(ALERT, source=RULES)
def alerts_measure_a_column_unless_they_count(props: Props) -> Iterator[str]:
    """Counting takes rows, every other aggregation a column."""
    for one in _conditions(props):
        how, column = one.get("timeAggregation"), one.get("metricMeasureColumn")
        if how not in AGGREGATIONS:
            yield f"timeAggregation is {how!r}: choose of {', '.join(AGGREGATIONS)}"
        elif (how == "Count") == bool(column):
            yield f"metricMeasureColumn is {column!r} with timeAggregation {how}: " + (
                "remove it" if column else "name one"
            )


@refuses(ALERT, source=REST)
def alerts_have_a_query(props: Props) -> Iterator[str]:
    """A rule has one condition at least, and each has a query."""
    if not (conditions := _conditions(props)):
        yield "criteria.allOf is empty: write a condition"
    if any(not str(one.get("query") or "").strip() for one in conditions):
        yield "a condition has no query: write one"


@refuses(ALERT, source=RULES)
def overridden_ranges_reach_back_far_enough(props: Props) -> Iterator[str]:
    """A query's own range is no shorter than what the rule looks at."""
    if (text := props.get("overrideQueryTimeRange")) is None:
        return
    size, own = _minutes(props.get("windowSize")) or 0, _minutes(text)
    periods = max(
        (number(at(o, "failingPeriods", "numberOfEvaluationPeriods")) or 1 for o in _conditions(props)), default=1
    )
    if own is None or own < size * periods or own > timedelta(days=2).total_seconds() / 60:
        yield f"overrideQueryTimeRange is {text!r}: set windowSize times the periods at least, P2D at most"


@refuses(GROUP, source=GROUPS)
def action_groups_have_a_short_name(props: Props) -> Iterator[str]:
    """Messages carry a name of 1 to 12 characters."""
    if not 1 <= len(str(name := props.get("groupShortName") or "")) <= 12:
        yield f"groupShortName is {name!r}: write 1 to 12 characters"


@refuses(GROUP, source=LIMITS)
def action_groups_stay_within_the_limits(props: Props) -> Iterator[str]:
    """A group has up to 1000 addresses, and 10 receivers of every other kind."""
    for kind in sorted(set(props)):
        if kind.endswith("Receivers"):
            count, most = len(items(props.get(kind))), 1000 if kind == "emailReceivers" else 10
            if count > most:
                yield f"{kind} has {count} receivers: keep {most}"


@refuses(GROUP, source=GROUPS)
def receivers_are_named_once(props: Props) -> Iterator[str]:
    """No two receivers of a group share a name."""
    names: set[str] = set()
    for kind in sorted(set(props)):
        for one in objects(props.get(kind)) if kind.endswith("Receivers") else ():
            name = str(one.get("name")).lower()
            if name in names:
                yield f"{kind} has a receiver {name} whose name is taken: rename it"
            names.add(name)


@refuses(GROUP, source="https://learn.microsoft.com/rest/api/monitor/action-groups/create-or-update")
def receivers_say_where_they_are(props: Props) -> Iterator[str]:
    """Mail needs an address, a text message a country and a number, a webhook a URI."""
    for kind, keys in (
        ("emailReceivers", ("emailAddress",)),
        ("smsReceivers", ("countryCode", "phoneNumber")),
        ("webhookReceivers", ("serviceUri",)),
    ):
        for one in objects(props.get(kind)):
            for key in ("name", *keys):
                if not one.get(key):
                    yield f"{kind} has a receiver {one.get('name')} without {key}: set it"


@refuses(WORKBOOK, source="https://learn.microsoft.com/rest/api/application-insights/workbooks/create-or-update")
def workbooks_are_named_by_a_guid(props: Props) -> Iterator[str]:
    """A workbook's resource name is a GUID; its title is displayName."""
    try:
        uuid.UUID(name := str(props.get("resourceName")))
    except ValueError:
        yield f"resourceName is {name!r}: write a GUID that is the same in every preview, such as a uuid5"
    if not props.get("displayName"):
        yield "displayName is missing: give the workbook a title"


@refuses(WORKBOOK, source="https://learn.microsoft.com/rest/api/application-insights/workbooks/create-or-update")
def workbooks_hold_json(props: Props) -> Iterator[str]:
    """A workbook's content is a JSON document."""
    try:
        json.loads(str(props.get("serializedData")))
    except ValueError:
        yield "serializedData is no JSON: serialise the workbook's content"
