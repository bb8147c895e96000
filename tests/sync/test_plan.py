"""RELIABILITY L0: the planner alone, over correlated triples (base, perturbed twice), without any I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.contract import Field, Kind, Verb
from connectors.memory.store import entity
from connectors.sync.merge import POLICIES, Moments, merge
from connectors.sync.plan import Context, Decision, Life, LinkState, Pending, SideState, decide
from connectors.sync.rules import ARCHIVED, LEFT, OTHER, RIGHT, FieldRule, Pair, Side

NAMES = ("a", "b", "c")
values = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([None, "1", "2", "3"]), min_size=3, max_size=3)
moments = st.one_of(
    st.none(), st.integers(0, 86_400).map(lambda second: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second))
)


def rules(policy: str, directions: tuple[str, ...]) -> tuple[FieldRule, ...]:
    return tuple(
        FieldRule(name, Field(name, Kind.TEXT), Field(name, Kind.TEXT), direction=direction, policy=policy)
        for name, direction in zip(NAMES, directions, strict=True)
    )


def pair(policy: str, directions: tuple[str, ...], **options: object) -> Pair:
    return Pair(1, "p", "p", 0, entity(), entity(), rules(policy, directions), policy=policy, **options)  # type: ignore[arg-type]


def link(base: dict | None, left: dict | None, right: dict | None, lives: tuple[Life, Life], when: tuple) -> LinkState:
    sides: dict[Side, SideState] = {}
    for side, now, life, moment in ((LEFT, left, lives[0], when[0]), (RIGHT, right, lives[1], when[1])):
        there = life is not Life.NONE
        staged = None if base is not None and now == base else now
        sides[side] = SideState(
            "person",
            "1" if there else None,
            "1",
            moment.isoformat() if moment else "",
            life,
            staged if there else None,
            {},
        )
    return LinkState(1, "k", sides, base)


def pretend(state: LinkState, decision: Decision, the_pair: Pair) -> LinkState:
    """Carry a decision out as if every write succeeded."""
    base = {**(state.base or {}), **(decision.agreed or {})}
    now = {side: dict(state.now(side)) for side in (LEFT, RIGHT)}
    lives = {side: state.sides[side].life for side in (LEFT, RIGHT)}
    quirks = {side: {**state.sides[side].quirk, **decision.kept.get(side, {})} for side in (LEFT, RIGHT)}
    for write in decision.writes:
        if write.verb is Verb.DELETE:
            lives[write.side] = Life.GONE
            continue
        base |= write.after
        if write.verb is Verb.CREATE:
            now[write.side] = dict.fromkeys(NAMES)  # a system answers for every field
        now[write.side] |= write.after
        quirks[write.side] = {n: v for n, v in quirks[write.side].items() if n not in write.after}
        lives[write.side] = Life.LIVE
    sides = {
        side: SideState("person", "1", "1", state.sides[side].modified, lives[side], now[side], quirks[side])
        for side in (LEFT, RIGHT)
    }
    return LinkState(1, "k", sides, base)


LIVES = st.sampled_from(
    [(Life.LIVE, Life.LIVE)] * 4
    + [(Life.LIVE, Life.NONE), (Life.NONE, Life.LIVE), (Life.LIVE, Life.GONE), (Life.GONE, Life.LIVE)]
)
DIRECTIONS = st.tuples(*[st.sampled_from(["both", "both", "to_right", "to_left"])] * 3)


@settings(max_examples=2000, deadline=None, database=None, derandomize=True)
@given(
    base=st.one_of(st.none(), values), left=values, right=values, lives=LIVES, when=st.tuples(moments, moments),
    policy=st.sampled_from(sorted(POLICIES)), directions=DIRECTIONS, delete=st.sampled_from(["ask", "delete", "ignore"]),
    edit=st.sampled_from(["ask", "edit", "delete"]),
)  # fmt: skip
def test_every_plan_ends_within_five_rounds_and_loses_nothing(  # type: ignore[no-untyped-def]
    base, left, right, lives, when, policy, directions, delete, edit
) -> None:
    the_pair = pair(policy, directions, on_delete=delete, edit_v_delete=edit)
    ctx = Context(the_pair, {LEFT: True, RIGHT: True})
    state = link(base, left, right, lives, when)
    entered = {side: dict(state.now(side)) for side in (LEFT, RIGHT)}
    for _ in range(5):
        decision = decide(state, ctx)
        assert decision == decide(state, ctx), "the same link is decided in the same way"
        _nothing_is_lost(state, decision, the_pair)
        if not decision.writes or decision.propose:
            break
        state = pretend(state, decision, the_pair)
    else:
        raise AssertionError(f"still writing after five rounds: {decision}")
    if decision.pending is None and not decision.end and not decision.respawn:
        for rule in the_pair.merged:
            kept = {
                **state.sides[LEFT].quirk,
                **state.sides[RIGHT].quirk,
                **decision.kept.get(LEFT, {}),
                **decision.kept.get(RIGHT, {}),
            }
            same = state.now(LEFT).get(rule.name) == state.now(RIGHT).get(rule.name)
            assert same or rule.name in kept, f"agreed, but {rule.name} differs: {entered}"
    else:
        assert decision.reason or decision.end or decision.respawn, "what is not agreed says why"


def _nothing_is_lost(state: LinkState, decision: Decision, the_pair: Pair) -> None:
    """Every value that a write replaces was agreed before, or is kept as the loser's."""
    for write in decision.writes:
        if write.verb is not Verb.UPDATE:
            continue
        for name in write.after:
            held = state.now(write.side).get(name)
            agreed = state.base is not None and name in state.base and state.base_of(write.side)[name] == held
            assert agreed or held is None or name in write.lost, f"{name}: {held!r} would be lost"


@settings(max_examples=500, deadline=None, database=None, derandomize=True)
@given(
    base=values,
    left=values,
    right=values,
    when=st.tuples(moments, moments),
    policy=st.sampled_from(["last_updated", "left", "right"]),
)
def test_the_policy_decides_only_where_both_sides_changed_the_same_field(base, left, right, when, policy) -> None:  # type: ignore[no-untyped-def]
    result = merge(
        rules(policy, ("both", "both", "both")), {LEFT: base, RIGHT: base}, {LEFT: left, RIGHT: right},
        {LEFT: frozenset(), RIGHT: frozenset()}, Moments(*when, timedelta(0)),
    )  # fmt: skip
    for name in NAMES:
        changed = [side for side, now in ((LEFT, left), (RIGHT, right)) if now[name] != base[name]]
        if len(changed) == 1:
            assert result.to[OTHER[changed[0]]][name] == (left if changed[0] == LEFT else right)[name]
            assert name not in result.lost
        elif len(changed) == 2 and left[name] != right[name]:
            winner = POLICIES[policy](Moments(*when, timedelta(0)))
            assert winner is not None
            assert result.to[OTHER[winner]][name] == (left if winner == LEFT else right)[name]
            assert result.lost[name] == {OTHER[winner]: (right if winner == LEFT else left)[name]}
        else:
            assert name not in result.to[LEFT] and name not in result.to[RIGHT]


def test_a_tie_within_the_tolerance_goes_to_the_left() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    close = Moments(noon, noon + timedelta(seconds=2), timedelta(seconds=2))
    late = Moments(noon, noon + timedelta(seconds=3), timedelta(seconds=2))
    assert POLICIES["last_updated"](close) == LEFT
    assert POLICIES["last_updated"](late) == RIGHT


def test_no_create_is_planned_before_the_other_side_was_read_to_its_end() -> None:
    state = link(None, {"a": "1", "b": None, "c": None}, None, (Life.LIVE, Life.NONE), (None, None))
    decision = decide(state, Context(pair("left", ("both",) * 3), {LEFT: True, RIGHT: False}))
    assert decision.pending is Pending.WAITING
    assert decision.reason == "waits for listing"


def test_inactive_is_a_value_in_agreement() -> None:
    archived = Field(ARCHIVED, Kind.BOOLEAN)
    the_pair = Pair(1, "p", "p", 0, entity(), entity(), (FieldRule(ARCHIVED, archived, archived, policy="left"),))
    state = link({ARCHIVED: False}, {ARCHIVED: True}, {ARCHIVED: False}, (Life.ARCHIVED, Life.LIVE), (None, None))
    [write] = decide(state, Context(the_pair, {LEFT: True, RIGHT: True})).writes
    assert (write.side, write.verb) == (RIGHT, Verb.ARCHIVE)
