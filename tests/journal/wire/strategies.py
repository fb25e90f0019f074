"""Hypothesis strategies for every entry, every control frame and the start, as the protocol can carry them.

What the wire has no place for is left out: stack traces of failures, ``seen_count``, how indexes and names
of signals are mixed. Text has no surrogates; numbers stay within their width.
"""

from hypothesis import strategies as st

from perdure.journal.attempt import (
    Awaiting,
    AwaitingOn,
    Behavior,
    Combinator,
    Ended,
    Failed,
    ProposeRun,
    Start,
    Suspended,
)
from perdure.journal.entries import (
    AttachInvocation,
    ById,
    ByIdempotencyKey,
    ByWorkflow,
    Call,
    ClearAllState,
    ClearState,
    Command,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    InvocationId,
    Notification,
    OneWayCall,
    Output,
    PeekPromise,
    Result,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
)
from perdure.journal.schema import Handler, HandlerType, ServiceType
from perdure.journal.wire.control import Control
from perdure.journal.wire.frames import FrameType

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
ids = st.integers(1, 300) | u32
texts = st.text(st.characters(codec="utf-8"), max_size=20)
payloads = st.binary(max_size=200)
names = st.just("") | texts
optional_texts = st.none() | texts
headers = st.lists(st.tuples(texts, texts), max_size=4).map(tuple)
keys = st.lists(texts, max_size=5).map(tuple)

values = st.builds(Value, payloads)
voids = st.builds(Void)
failures = st.builds(Failure, u32, texts, st.dictionaries(texts, texts, max_size=3), st.just(""))
plain_failures = st.builds(Failure, u32, texts)  # what V5 can carry
outcomes = values | failures
signal_results = voids | values | failures
signals = ids | texts

targets = (
    st.builds(ById, texts)
    | st.builds(ByIdempotencyKey, texts, optional_texts, texts, texts, optional_texts)
    | st.builds(ByWorkflow, texts, texts, optional_texts)
)

COMMANDS: dict[type, st.SearchStrategy[Command]] = {
    Input: st.builds(Input, headers, payloads),
    Output: st.builds(Output, outcomes, names),
    GetLazyState: st.builds(GetLazyState, ids, texts, names),
    GetLazyStateKeys: st.builds(GetLazyStateKeys, ids, names),
    GetEagerState: st.builds(GetEagerState, texts, st.none() | payloads, names),
    GetEagerStateKeys: st.builds(GetEagerStateKeys, keys, names),
    SetState: st.builds(SetState, texts, payloads, names),
    ClearState: st.builds(ClearState, texts, names),
    ClearAllState: st.builds(ClearAllState, names),
    GetPromise: st.builds(GetPromise, ids, texts, names),
    PeekPromise: st.builds(PeekPromise, ids, texts, names),
    CompletePromise: st.builds(CompletePromise, ids, texts, outcomes, names),
    Sleep: st.builds(Sleep, ids, u64, names),
    Call: st.builds(
        Call,
        *(ids, ids, texts, texts, texts, payloads, headers),
        *(optional_texts, optional_texts, optional_texts, names),
    ),
    OneWayCall: st.builds(
        OneWayCall,
        *(ids, texts, texts, texts, payloads, u64, headers),
        *(optional_texts, optional_texts, optional_texts, names),
    ),
    SendSignal: st.builds(SendSignal, texts, signals, signal_results, names),
    Run: st.builds(Run, ids, names),
    AttachInvocation: st.builds(AttachInvocation, ids, targets, names),
    GetInvocationOutput: st.builds(GetInvocationOutput, ids, targets, names),
    CompleteAwakeable: st.builds(CompleteAwakeable, texts, outcomes, names),
}
commands: st.SearchStrategy[Command] = st.one_of(*COMMANDS.values())

# Of each completion's frame, what its result may be (service protocol 3.6).
COMPLETIONS: dict[FrameType, st.SearchStrategy[Result]] = {
    FrameType.GET_LAZY_STATE_COMPLETION: voids | values,
    FrameType.GET_LAZY_STATE_KEYS_COMPLETION: st.builds(StateKeys, keys),
    FrameType.GET_PROMISE_COMPLETION: outcomes,
    FrameType.PEEK_PROMISE_COMPLETION: voids | outcomes,
    FrameType.COMPLETE_PROMISE_COMPLETION: voids | failures,
    FrameType.SLEEP_COMPLETION: voids,
    FrameType.CALL_COMPLETION: outcomes,
    FrameType.CALL_INVOCATION_ID_COMPLETION: st.builds(InvocationId, texts),
    FrameType.RUN_COMPLETION: outcomes,
    FrameType.ATTACH_INVOCATION_COMPLETION: outcomes,
    FrameType.GET_INVOCATION_OUTPUT_COMPLETION: voids | outcomes,
}
typed_completions: st.SearchStrategy[tuple[Notification, FrameType]] = st.one_of(
    *(
        st.tuples(st.builds(Completion, ids, results), st.just(type))
        for type, results in COMPLETIONS.items()
    )
)
signal_entries = st.builds(Signal, signals, signal_results)
# Each with the type of its frame.
typed_notifications: st.SearchStrategy[tuple[Notification, FrameType]] = (
    typed_completions | st.tuples(signal_entries, st.just(FrameType.SIGNAL))
)
notifications: st.SearchStrategy[Notification] = typed_notifications.map(lambda each: each[0])
entries: st.SearchStrategy[Entry] = commands | notifications

_leaves = st.tuples(
    st.lists(ids, max_size=4), st.lists(ids, max_size=3), st.lists(texts, max_size=3)
)


_flat = st.builds(
    lambda combinator, leaves: Awaiting(combinator, tuple(leaves[0]), (*leaves[1], *leaves[2])),
    st.sampled_from(Combinator),
    _leaves,
)


def _awaiting(nested: st.SearchStrategy[Awaiting]) -> st.SearchStrategy[Awaiting]:
    return st.builds(
        lambda tree, children: Awaiting(
            tree.combinator, tree.completions, tree.signals, tuple(children)
        ),
        _flat,
        st.lists(nested, max_size=3),
    )


trees = st.recursive(_flat, _awaiting, max_leaves=8)
# A tree with something to wait for, as a suspension has to have.
waiting_trees = st.builds(
    lambda tree, leaf: Awaiting(
        tree.combinator, (leaf, *tree.completions), tree.signals, tree.nested
    ),
    trees,
    ids,
)

failed = st.builds(
    Failed,
    *(u32, texts, texts, st.none() | u64, st.sampled_from(Behavior), st.none() | u32, texts),
    st.sampled_from(["", "run", "call", "one_way_call"]),
)
controls: st.SearchStrategy[Control] = (
    st.builds(ProposeRun, ids, outcomes)
    | st.builds(AwaitingOn, trees)
    | st.builds(Suspended, waiting_trees, st.just(0))
    | st.just(Ended())
    | failed
)

handlers = st.just(Handler("Cart", "add", HandlerType.EXCLUSIVE, ServiceType.VIRTUAL_OBJECT))
starts = st.builds(
    Start,
    id=st.binary(min_size=24, max_size=24),
    attempt=u32,
    handler=handlers,
    key=texts,
    entries=st.builds(
        lambda first, rest: (first, *rest), COMMANDS[Input], st.lists(entries, max_size=2)
    ),
    state=st.dictionaries(texts, payloads, max_size=4),
    state_complete=st.booleans(),
    random_seed=u64,
    retry_count=u32,
    retry_duration_ms=u64,
    idempotency_key=optional_texts,
    scope=optional_texts,
    limit_key=optional_texts,
)
