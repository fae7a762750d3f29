"""The planner: the published rules to the byte, budgets never passed, plans as good as an exhaustive search finds."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdcpp_py import errors
from sdcpp_py.plan import planner
from sdcpp_py.plan.planner import Plan, Stage, plan

MIB = 2**20


def blocks(count: int, param: int, compute: int, carry: int, *, extra: int = 0, seconds: float = 0.02) -> list[Stage]:
    return [Stage(f"block.{i}", param * MIB, compute * MIB, carry * MIB, carry * MIB, extra * MIB, seconds) for i in range(count)]


def sizes(found: Plan) -> list[int]:
    return [s.last - s.first + 1 for s in found.segments]


# The worked examples of the published rules: (count, param, compute, carry, budget), sizes of segments, resident MiB.
EXAMPLES = [
    ("full", (30, 360, 900, 21, 10240), [25, 5], 0),
    ("capped", (30, 360, 900, 21, 10240), [4] * 7 + [2], 5760),
    ("capped", (30, 360, 900, 21, 5120), [1] * 30, 1800),
    ("capped", (30, 360, 900, 21, 3584), [1] * 30, 360),
    ("capped", (60, 660, 800, 40, 10240), [2] * 30, 5940),
    ("capped", (60, 660, 800, 40, 4096), [1] * 60, 0),
    ("capped", (30, 240, 900, 21, 10240), [30], 7200),
    ("capped", (30, 256, 900, 21, 10240), [30], 7680),  # 4 P = 3 T exactly: not capped
]


@pytest.mark.parametrize(("policy", "case", "segments", "resident"), EXAMPLES)
def test_worked_examples_of_the_published_rules(
    policy: str, case: tuple[int, int, int, int, int], segments: list[int], resident: int
) -> None:
    count, param, compute, carry, budget = case
    found = plan(blocks(count, param, compute, carry), budget_bytes=budget * MIB, policy=policy)
    assert sizes(found) == segments
    assert found.resident_bytes == resident * MIB
    assert found.streamed_bytes_per_step == (0 if len(segments) == 1 else (count * param - resident) * MIB)


def test_unequal_stages_and_a_prefix_without_gaps() -> None:
    stages = [Stage("prelude", 300 * MIB, 600 * MIB, 0, 60 * MIB)]
    stages += [Stage(f"double.{i}", 650 * MIB, 700 * MIB, 60 * MIB, 60 * MIB) for i in range(19)]
    stages += [Stage(f"single.{i}", 270 * MIB, 700 * MIB, 60 * MIB, 60 * MIB) for i in range(38)]
    found = plan(stages, budget_bytes=10240 * MIB, policy="capped")
    assert sizes(found) == [3, *[2] * 8, 5, *[6] * 5, 4]
    assert found.resident_stages == tuple(range(9))
    assert found.resident_bytes == 5500 * MIB


def test_the_cap_only_acts_while_streaming() -> None:
    stages = blocks(30, 360, 900, 21)
    for off in ({"stream_layers": False}, {"offload_to_cpu": False}):
        found = plan(stages, budget_bytes=10240 * MIB, policy="capped", **off)
        assert sizes(found) == [25, 5]
        assert found.streamed_bytes_per_step == 10800 * MIB


def reference_merge(stages: list[Stage], limit: int) -> list[tuple[int, int]]:
    """The merge rule, written once more from its text."""
    out: list[tuple[int, int]] = []
    start = 0
    while start < len(stages):
        end = start
        while end + 1 < len(stages) and footprint(stages[start : end + 1]) <= limit:
            if footprint(stages[start : end + 2]) > limit:
                break
            end += 1
        out.append((start, end))
        start = end + 1
    return out


def footprint(part: list[Stage], extra: bool = False) -> int:
    total = max(s.compute_bytes for s in part) + sum(s.param_bytes for s in part)
    total += part[0].carry_in_bytes + part[-1].carry_out_bytes
    return total + (max(s.extra_bytes for s in part) if extra else 0)


def stage_lists(most: int, unit: int = MIB, blocks: bool = False) -> st.SearchStrategy[list[Stage]]:
    size = st.integers(0, 700)
    carry = st.integers(0, 60)
    one = st.tuples(size, size, carry, carry, carry, st.floats(0, 0.1), st.integers(0, 4), st.booleans())
    return st.lists(one, min_size=1, max_size=most).map(
        lambda rows: [
            Stage(f"s{i}", p * unit, c * unit, a * unit, b * unit, e * unit, t, split(p * unit, n), blocks and i > 0 and same)
            for i, (p, c, a, b, e, t, n, same) in enumerate(rows)
        ]
    )


def as_blocks(stages: list[Stage]) -> list[Stage]:
    """Each block as one stage."""
    out: list[list[Stage]] = []
    for stage in stages:
        if stage.same_block:
            out[-1].append(stage)
        else:
            out.append([stage])
    return [
        Stage(
            part[0].name,
            sum(s.param_bytes for s in part),
            max(s.compute_bytes for s in part),
            part[0].carry_in_bytes,
            part[-1].carry_out_bytes,
            max(s.extra_bytes for s in part),
            sum(s.seconds for s in part),
        )
        for part in out
    ]


def split(total: int, count: int) -> tuple[int, ...]:
    """Parts of about equal size; none for a count of 0."""
    return tuple(total * (i + 1) // count - total * i // count for i in range(count))


@settings(max_examples=500, deadline=None)
@given(stage_lists(40), st.integers(1, 30000), st.sampled_from(["full", "capped"]))
def test_full_and_capped_follow_the_rules(stages: list[Stage], budget_mib: int, policy: str) -> None:
    budget = budget_mib * MIB + 12345
    total = sum(s.param_bytes for s in stages)
    limit = budget // 4 if policy == "capped" and 4 * total > 3 * budget else budget
    merged = reference_merge(stages, limit)
    try:
        found = plan(stages, budget_bytes=budget, policy=policy)
    except errors.OverBudgetError:
        assert max(footprint(stages[a : b + 1]) for a, b in merged) > budget
        return
    assert [(s.first, s.last) for s in found.segments] == merged
    residents = 0
    if len(merged) == 1:
        residents = len(stages)
    else:
        worst = max(footprint(stages[a : b + 1], extra=True) for a, b in merged)
        base = max(footprint([s], extra=True) for s in stages)
        room = budget - worst - 512 * MIB - base
        while room > 0 and residents < len(stages) and sum(s.param_bytes for s in stages[: residents + 1]) <= room:
            residents += 1
    assert found.resident_stages == tuple(range(residents))


def peak(found: Plan, stages: list[Stage]) -> int:
    """The most memory in use at any moment, from the plan's choices and the stages alone."""
    streamed = found.streamed_stage_bytes
    assert all(streamed[i] == 0 for i in found.resident_stages)
    held = sum(stage.param_bytes - bytes for stage, bytes in zip(stages, streamed))
    parts = [stages[s.first : s.last + 1] for s in found.segments]
    work = [max(x.compute_bytes for x in part) * found.group for part in parts]
    carry = [(part[0].carry_in_bytes + part[-1].carry_out_bytes) * found.together for part in parts]
    if found.policy != "pipelined":
        loads = [sum(streamed[s.first : s.last + 1]) for s in found.segments]
        return held + max(a + b + c for a, b, c in zip(loads, work, carry))
    return held + max((piece.offset + piece.bytes for piece in found.pieces), default=0) + max(work) + max(carry)


def check_pieces(found: Plan, stages: list[Stage]) -> None:
    """Pieces are what is streamed, in the order of the stages."""
    assert [piece.stage for piece in found.pieces] == sorted(piece.stage for piece in found.pieces)
    for piece in found.pieces:
        segment = found.segments[piece.segment]
        assert piece.bytes > 0 and segment.first <= piece.stage <= segment.last
        assert piece.offset + piece.bytes <= sum(found.slots)
    for i, bytes in enumerate(found.streamed_stage_bytes):
        parts = stages[i].parts or (stages[i].param_bytes,)
        assert any(bytes == sum(some) for n in range(len(parts) + 1) for some in itertools.combinations(parts, n))
        assert sum(piece.bytes for piece in found.pieces if piece.stage == i) == bytes


def replayed_seconds(found: Plan, stages: list[Stage], link: float) -> float:
    """Seconds of a steady step, from the pieces' places alone.

    Each upload waits for the link, and for all that was ever computed with weights in its place.
    """
    computed: list[tuple[int, int, float]] = []  # place, and when its weights are done with
    link_free = end = 0.0
    ends = []
    for _ in range(5):
        for number, s in enumerate(found.segments):
            start, own = end, [piece for piece in found.pieces if piece.segment == number]
            for piece in own:
                stop = piece.offset + piece.bytes
                free = max((t for a, b, t in computed if a < stop and piece.offset < b), default=0.0)
                link_free = max(link_free, free) + piece.bytes / link
                start = max(start, link_free)
            end = start + sum(stages[i].seconds for i in range(s.first, s.last + 1)) * found.together
            for piece in own:  # earlier contents are overwritten
                stop = piece.offset + piece.bytes
                computed = [(a, b, t) for a, b, t in computed if not (piece.offset <= a and b <= stop)]
                computed.append((piece.offset, stop, end))
            for a in own:
                assert not any(a is not b and a.offset < b.offset + b.bytes and b.offset < a.offset + a.bytes for b in own)
        ends.append(end)
    return (ends[4] - ends[2]) / 2 * found.passes


@settings(max_examples=10_000, deadline=None)
@given(
    stage_lists(24, blocks=True),
    st.floats(0.01, 1.3),
    st.sampled_from(["auto", "pipelined", "capped", "full"]),
    st.integers(1, 6),
    st.sampled_from([1e9, 1e10, 1e11]),
    st.booleans(),
)
# all resident, though not as one segment
@example([Stage("a", 1, 0, 1, 0), Stage("b", 0, 0, 0, 0), Stage("c", 0, 0, 0, 1)], 0.5, "auto", 1, 1e9, False)
def test_no_plan_passes_the_budget(
    stages: list[Stage], share: float, policy: str, microbatches: int, link: float, streams: bool
) -> None:
    options = {"policy": policy, "microbatches": microbatches, "link_bytes_per_s": link, "stream_layers": streams}
    budget = max(1, int(share * (footprint(stages))))
    try:
        found = plan(stages, budget_bytes=budget, **options)
    except errors.OverBudgetError as problem:
        assert problem.least_bytes > budget
        budget = problem.least_bytes
        found = plan(stages, budget_bytes=budget, **options)
    assert found.peak_bytes <= budget
    assert peak(found, stages) <= found.peak_bytes
    assert [s.first for s in found.segments] == [0, *[s.last + 1 for s in found.segments[:-1]]]
    assert found.segments[-1].last == len(stages) - 1
    assert found.together * found.passes == microbatches
    assert found.together % found.group == 0
    assert found.streamed_bytes_per_step == sum(found.streamed_stage_bytes) * found.passes
    check_pieces(found, stages)
    if found.policy == "pipelined":
        assert found.predicted_step_seconds == pytest.approx(replayed_seconds(found, stages, link), rel=1e-9)
    assert found.predicted_step_seconds >= found.limit_step_seconds * (1 - 1e-6)


def simulated_seconds(stages: list[Stage], resident: frozenset[int], slots: int, link: float, rounds: int = 8) -> float:
    """Seconds of a steady step, from the definition: an upload waits for the link and for its slot's last use."""
    link_free = end = 0.0
    slot_free = [0.0] * slots
    ends = []
    for _ in range(rounds):
        turn = 0
        for i, stage in enumerate(stages):
            start = end
            if i not in resident and stage.param_bytes:
                slot, turn = turn % slots, turn + 1
                link_free = max(link_free, slot_free[slot]) + stage.param_bytes / link
                start = max(end, link_free)
                slot_free[slot] = start + stage.seconds
            end = start + stage.seconds
        ends.append(end)
    half = rounds // 2
    return (ends[-1] - ends[half - 1]) / (rounds - half)


def best_by_exhaustion(stages: list[Stage], budget: int, link: float) -> float | None:
    room = budget - max(s.compute_bytes for s in stages) - max(s.carry_in_bytes + s.carry_out_bytes for s in stages)
    best: float | None = None
    for flags in itertools.product((False, True), repeat=len(stages)):
        resident = frozenset(i for i, flag in enumerate(flags) if flag)
        held = sum(stages[i].param_bytes for i in resident)
        loads = [s.param_bytes for i, s in enumerate(stages) if i not in resident and s.param_bytes]
        if not loads:
            if held <= room:
                return sum(s.seconds for s in stages)
            continue
        for slots in range(1, min(4, len(loads)) + 1):
            if held + sum(max(loads[k::slots]) for k in range(slots)) <= room:
                seconds = simulated_seconds(stages, resident, slots, link)
                best = seconds if best is None else min(best, seconds)
    return best


@pytest.mark.parametrize("seed", range(60))
def test_plans_are_within_five_percent_of_an_exhaustive_search(seed: int) -> None:
    rng = random.Random(seed)
    stages = []
    for i in range(rng.randint(2, 10)):
        size = rng.choice((rng.randint(1, 600), 300))
        stages.append(
            Stage(f"s{i}", size * MIB, rng.randint(10, 300) * MIB, 20 * MIB, 20 * MIB, 0, rng.choice((0.02, rng.uniform(0, 0.1))))
        )
    link = rng.choice((2e9, 6e9, 20e9))
    total = footprint(stages)
    budget = int(total * rng.uniform(0.3, 1.0))
    best = best_by_exhaustion(stages, budget, link)
    if best is None:
        with pytest.raises(errors.OverBudgetError):
            plan(stages, budget_bytes=budget, policy="pipelined", link_bytes_per_s=link)
        return
    found = plan(stages, budget_bytes=budget, policy="pipelined", link_bytes_per_s=link)
    assert found.predicted_step_seconds <= best * 1.05 + 1e-9


@settings(max_examples=200, deadline=None)
@given(stage_lists(24, blocks=True), st.integers(1, 30000), st.sampled_from(["full", "capped"]))
def test_full_and_capped_do_not_cut_blocks(stages: list[Stage], budget_mib: int, policy: str) -> None:
    options = {"budget_bytes": budget_mib * MIB, "policy": policy, "microbatches": 2}
    try:
        whole = plan(as_blocks(stages), **options)
    except errors.OverBudgetError as problem:
        with pytest.raises(errors.OverBudgetError) as caught:
            plan(stages, **options)
        assert caught.value.least_bytes == problem.least_bytes
        return
    found = plan(stages, **options)
    firsts = [i for i, stage in enumerate(stages) if not stage.same_block] + [len(stages)]
    assert [(s.first, s.last) for s in found.segments] == [(firsts[s.first], firsts[s.last + 1] - 1) for s in whole.segments]
    assert found.streamed_bytes_per_step == whole.streamed_bytes_per_step
    assert found.peak_bytes == whole.peak_bytes
    assert found.predicted_step_seconds == pytest.approx(whole.predicted_step_seconds)


def test_the_smallest_budget_is_reported_and_is_enough() -> None:
    stages = blocks(10, 360, 900, 21)
    stages[3] = replace(stages[3], name="the large one", param_bytes=500 * MIB)
    for policy in ("auto", "pipelined", "full", "capped"):
        with pytest.raises(errors.OverBudgetError, match="the large one") as caught:
            plan(stages, budget_bytes=1000 * MIB, policy=policy)
        least = caught.value.least_bytes
        assert plan(stages, budget_bytes=least, policy=policy).peak_bytes <= least
        with pytest.raises(errors.OverBudgetError):
            plan(stages, budget_bytes=least - 1, policy=policy)
        assert isinstance(caught.value, MemoryError)


def test_without_a_budget_all_is_resident_in_one_segment() -> None:
    found = plan(blocks(30, 360, 900, 21), budget_bytes=0, microbatches=4)
    assert sizes(found) == [30]
    assert found.streamed_bytes_per_step == 0
    assert found.predicted_step_seconds == pytest.approx(30 * 4 * 0.02)


def test_streamed_bytes_do_not_grow_with_microbatches() -> None:
    stages = blocks(30, 360, 100, 5)
    ours = [plan(stages, budget_bytes=4096 * MIB, policy="pipelined", microbatches=m) for m in (1, 2, 4)]
    for p in ours:
        assert p.streamed_bytes_per_step == sum(s.streamed_bytes for s in p.segments)
    theirs = [plan(stages, budget_bytes=4096 * MIB, policy="capped", microbatches=m) for m in (1, 2)]
    assert theirs[1].streamed_bytes_per_step == 2 * theirs[0].streamed_bytes_per_step


def test_layer_count_is_a_cap_not_a_demand() -> None:
    stages = blocks(30, 360, 100, 5)
    few = plan(stages, budget_bytes=8192 * MIB, policy="pipelined", gpu_layers=3)
    assert len(few.resident_stages) == 3
    many = plan(stages, budget_bytes=8192 * MIB, policy="pipelined", gpu_layers=1000)
    assert many == plan(stages, budget_bytes=8192 * MIB, policy="pipelined")
    assert plan(stages, budget_bytes=20000 * MIB, policy="pipelined", gpu_layers=0).resident_bytes == 0


def test_layers_are_counted_by_blocks() -> None:
    halves = [replace(stage, same_block=i % 2 == 1) for i, stage in enumerate(blocks(60, 180, 100, 5))]
    few = plan(halves, budget_bytes=8192 * MIB, policy="pipelined", gpu_layers=3)
    assert len(few.resident_stages) == 6
    assert all((i ^ 1) in few.resident_stages for i in few.resident_stages)
    tight = plan(halves, budget_bytes=295 * MIB, policy="pipelined", gpu_layers=3)  # room for half a block
    assert tight.resident_stages == ()


def test_starting_graphs_is_weighed() -> None:
    stages = blocks(60, 30, 20, 1, seconds=0.01)
    for dispatch, most in ((0.0, 60), (0.005, 30)):
        found = plan(stages, budget_bytes=1000 * MIB, policy="pipelined", link_bytes_per_s=5e9, dispatch_seconds=dispatch)
        assert found.streamed_bytes_per_step > 0
        assert len(found.segments) <= most


def test_auto_is_never_slower_than_any_policy() -> None:
    rng = random.Random(3)
    for _ in range(50):
        stages = blocks(rng.randint(1, 30), rng.randint(1, 500), rng.randint(1, 500), 10)
        options = {"budget_bytes": int(footprint(stages) * rng.uniform(0.2, 1.1)) + 2000 * MIB, "link_bytes_per_s": 5e9}
        best = plan(stages, **options).predicted_step_seconds
        for policy in ("pipelined", "capped", "full"):
            assert best <= plan(stages, policy=policy, **options).predicted_step_seconds * 1.002


def test_a_plan_is_deterministic_and_reads_as_a_table() -> None:
    stages = blocks(30, 360, 900, 21)
    found = plan(stages, budget_bytes=8 * 2**30)
    assert found == plan(stages, budget_bytes=8 * 2**30)
    text = str(found)
    assert "policy pipelined" in text
    assert "block.0" in text
    assert "limit" in text


@pytest.mark.parametrize(
    "bad",
    [
        {"budget_bytes": -1},
        {"budget_bytes": 2**60},
        {"microbatches": 0},
        {"policy": "best"},
        {"link_bytes_per_s": 0.0},
        {"link_bytes_per_s": float("nan")},
        {"dispatch_seconds": -1.0},
    ],
)
def test_bad_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        plan(blocks(2, 1, 1, 1), **{"budget_bytes": 2**30, **bad})  # type: ignore[arg-type]


def test_bad_stages_are_refused() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="1 to 10000 stages"):
        plan([], budget_bytes=0)
    with pytest.raises(errors.InvalidArgumentError, match="param_bytes"):
        plan([Stage("s", -1, 0, 0, 0)], budget_bytes=0)
    with pytest.raises(errors.InvalidArgumentError, match="seconds"):
        plan([Stage("s", 1, 0, 0, 0, seconds=float("inf"))], budget_bytes=0)
    assert planner.POLICIES[0] == "auto"
