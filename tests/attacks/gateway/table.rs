//! The cases, and under which weakening each must succeed.

use super::rig::Rig;
use super::{answers, budget, bulk, connection, credential, head, jobs, json, policy, process};
use crate::case::{Case, Promise, Verdict, Weakening};

/// Which gateway a case is tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// One that other cases use at the same time.
    Shared,
    /// One of its own.
    Own,
    /// One of its own that waits a second where others wait minutes.
    Impatient,
    /// One of its own that a user without privileges started.
    Unprivileged,
}

/// One case and what it does.
#[derive(Clone, Copy)]
pub struct Attack {
    pub id: &'static str,
    promise: Promise,
    tries: &'static str,
    pub stage: Stage,
    pub attempt: fn(&Rig) -> Verdict,
}

const fn attack(id: &'static str, promise: Promise, tries: &'static str, stage: Stage, attempt: fn(&Rig) -> Verdict) -> Attack {
    Attack { id, promise, tries, stage, attempt }
}

use Promise::{DenialOfService, Exfiltration, Key, Lateral, Spend};
use Stage::{Impatient, Own, Shared, Unprivileged};

pub const ATTACKS: [Attack; 109] = [
    attack("G01-methods", Exfiltration, "other methods than POST", Shared, head::methods),
    attack("G01-paths", Exfiltration, "other parts of the provider's interface", Shared, head::paths),
    attack("G02-path-tricks", Exfiltration, "the one path in another spelling", Shared, head::path_tricks),
    attack("G02-query", Exfiltration, "a query behind the path", Shared, head::query),
    attack("G02-other-targets", Exfiltration, "absolute and authority forms", Shared, head::other_targets),
    attack("G02-versions", Exfiltration, "other versions of HTTP", Shared, head::versions),
    attack("G03-smuggling", Exfiltration, "bytes that two readers divide differently", Shared, head::smuggling),
    attack("G03-pipelining", Exfiltration, "a bad request between two good ones", Shared, head::pipelining),
    attack("G04-upgrades", Exfiltration, "websocket, h2c, TLS, HTTP/2", Shared, head::upgrades),
    attack("G04-tunnels", Exfiltration, "CONNECT and proxy requests", Shared, head::tunnels),
    attack("G04-body-kinds", Exfiltration, "bodies said to be something else", Shared, head::body_kinds),
    attack("G04-body-codings", Exfiltration, "compressed bodies", Shared, head::body_codings),
    attack("G05-headers", Key, "25 headers of credentials and forwarding", Shared, head::headers),
    attack("G06-hosted-tools", Exfiltration, "tools that the provider runs, in every place and spelling", Shared, policy::hosted_tools),
    attack("G06-tool-keys", Exfiltration, "keys that make the provider run a tool", Shared, policy::tool_keys),
    attack("G06-tool-choice", Exfiltration, "a choice of a hosted tool", Shared, policy::tool_choice),
    attack("G06-schema-references", Exfiltration, "schemas that refer to other documents", Shared, policy::schema_references),
    attack("G06-hosted-calls", Exfiltration, "calls that the provider ran", Shared, policy::hosted_calls),
    attack("G07-remote-images", Exfiltration, "images that the provider would fetch", Shared, policy::remote_images),
    attack("G07-files", Exfiltration, "files by id and URL, parts of other kinds", Shared, policy::files),
    attack("G07-part-keys", Exfiltration, "keys of a part that name something elsewhere", Shared, policy::part_keys),
    attack("G08-stored-state", Lateral, "stored responses, conversations, prompts, background work", Shared, policy::stored_state),
    attack("G08-storing", Exfiltration, "storing, not streaming", Shared, policy::storing),
    attack("G08-item-kinds", Lateral, "references to stored items, calls of hosted tools", Shared, policy::item_kinds),
    attack("G08-item-keys", Lateral, "keys of an item that name something elsewhere", Shared, policy::item_keys),
    attack("G08-item-ids", Lateral, "ids of stored items", Shared, policy::item_ids),
    attack("G08-forms", Exfiltration, "values of other forms", Shared, policy::forms),
    attack("G08-includes", Exfiltration, "including what hosted tools found", Shared, policy::includes),
    attack("G08-unknown-keys", Exfiltration, "keys that no list names", Shared, policy::unknown_keys),
    attack("G09-models", Spend, "models that were not allowed, in 21 spellings", Shared, policy::models),
    attack("G09-model-names", Exfiltration, "names that are none", Shared, policy::model_names),
    attack("G10-identity", Lateral, "a cache key, a user, a safety identifier of the job's choice", Shared, policy::identity),
    attack("G10-cache", Lateral, "sharing a cache with another job", Shared, jobs::cache),
    attack("G10-metadata", Exfiltration, "metadata in four places", Shared, policy::metadata),
    attack("G10-service", Spend, "a service tier, options of the stream", Shared, policy::service),
    attack("G11-parallel", Spend, "ten requests at once on a budget for one", Shared, budget::parallel),
    attack("G11-overshoot", Spend, "a last request that goes over", Shared, budget::overshoot),
    attack("G11-huge-output", Spend, "more output than there is budget", Shared, budget::huge_output),
    attack("G11-large-input", Spend, "more text than there is budget", Shared, budget::large_input),
    attack("G11-crashes", Spend, "answers that the gateway's death ends", Own, budget::crashes),
    attack("G11-requests", Spend, "more requests than a job may make", Shared, budget::requests),
    attack("G11-denials", Exfiltration, "trying on after many refusals", Shared, budget::denials),
    attack("G11-day-tokens", Spend, "five jobs on the tokens of a day", Own, budget::day_tokens),
    attack("G11-under-way", DenialOfService, "five jobs at once where two may ask", Own, budget::under_way),
    attack("G11-aborts", Spend, "leaving in the middle of answers", Shared, budget::aborts),
    attack("G11-early-aborts", Spend, "leaving before the answers", Shared, budget::early_aborts),
    attack("G11-usage-omitted", Spend, "answers without a count", Shared, budget::usage_omitted),
    attack("G11-cut-answers", Spend, "answers that break off", Shared, budget::cut_answers),
    attack("G11-in-flight", Spend, "twelve requests at once", Shared, budget::in_flight),
    attack("G12-in-an-answer", Key, "the provider says its key", Shared, credential::in_an_answer),
    attack("G12-beside-an-answer", Key, "the key in what is not part of an event", Shared, credential::beside_an_answer),
    attack("G12-escaped", Key, "the key written with escapes", Shared, credential::escaped),
    attack("G12-in-pieces", Key, "the key in pieces over several events", Shared, credential::in_pieces),
    attack("G12-in-a-failure", Key, "the key in bodies and headers of failures", Own, credential::in_a_failure),
    attack("G12-in-a-failed-event", Key, "the key in failed events", Own, credential::in_a_failed_event),
    attack("G12-in-headers", Key, "the key in headers of an answer", Own, credential::in_headers),
    attack("G12-redirects", Key, "redirects to somebody else", Own, credential::redirects),
    attack("G12-proxies", Key, "a proxy in the environment", Own, credential::proxies),
    attack("G12-resting-places", Key, "the key in logs, ledger, records", Own, credential::resting_places),
    attack("G12-passes-at-rest", Key, "the pass in logs, ledger, records", Own, credential::passes_at_rest),
    attack("G13-silent-connections", DenialOfService, "1100 connections that say nothing", Own, bulk::silent_connections),
    attack("G13-slow-heads", DenialOfService, "a byte now and then", Own, bulk::slow_heads),
    attack("G13-endless-bodies", DenialOfService, "bodies of a gigabyte and without end", Own, bulk::endless_bodies),
    attack("G13-many-bodies", DenialOfService, "64 bodies of 8 MiB at once", Own, bulk::many_bodies),
    attack("G13-huge-heads", DenialOfService, "heads of a megabyte", Own, bulk::huge_heads),
    attack("G13-never-reads", DenialOfService, "never reading the answers", Own, bulk::never_reads),
    attack("G13-heavy-trees", DenialOfService, "small texts that become large trees", Own, bulk::heavy_trees),
    attack("G13-endless-first-lines", DenialOfService, "a first line without end", Own, bulk::endless_first_lines),
    attack("G13-stalled-heads", DenialOfService, "a head that never ends", Impatient, bulk::stalled_heads),
    attack("G13-stalled-bodies", DenialOfService, "a body that never ends", Impatient, bulk::stalled_bodies),
    attack("G13-stalled-readers", DenialOfService, "an answer that nobody takes", Impatient, bulk::stalled_readers),
    attack("G14-preambles", Lateral, "first lines that are none", Shared, connection::preambles),
    attack("G14-passes", Lateral, "passes that are almost right", Shared, connection::passes),
    attack("G14-names", Lateral, "a good pass under another name", Shared, connection::names),
    attack("G14-expired", Spend, "a pass whose time is over", Shared, connection::expired),
    attack("G14-revoked", Spend, "a pass that was revoked", Shared, connection::revoked),
    attack("G14-without-slot", DenialOfService, "requests without a slot", Shared, connection::without_slot),
    attack("G14-slot-misuse", Lateral, "noise and floods on slot connections", Shared, connection::slot_misuse),
    attack("G15-dummy-key", Key, "the placeholder in the cell as a pass and as a credential", Shared, credential::dummy_key),
    attack("G16-duplicate-keys", Exfiltration, "a key twice in one object", Shared, json::duplicate_keys),
    attack("G16-malformed", Exfiltration, "what one reader takes for JSON and another does not", Shared, json::malformed),
    attack("G16-no-object", Exfiltration, "documents that are no object", Shared, json::no_object),
    attack("G16-depth", DenialOfService, "a million brackets", Shared, json::depth),
    attack("G16-values", DenialOfService, "millions of values", Shared, json::values),
    attack("G16-size", DenialOfService, "bodies over 8 MiB", Shared, json::size),
    attack("G16-too-many", DenialOfService, "more tools, items, parts than any conversation has", Shared, policy::too_many),
    attack("G16-too-long", DenialOfService, "names that are texts", Shared, policy::too_long),
    attack("G16-without-input", Exfiltration, "a request without input", Shared, json::without_input),
    attack("G17-unknown-events", Lateral, "events that Codex does not know", Shared, answers::unknown_events),
    attack("G17-hosted-calls", Lateral, "calls of tools that nobody declared", Shared, answers::hosted_calls),
    attack("G17-unknown-fields", Lateral, "fields that no list names", Shared, answers::unknown_fields),
    attack("G17-not-events", Lateral, "comments, ids, HTML, lines that are none", Shared, answers::not_events),
    attack("G17-other-answers", Lateral, "answers that are no stream", Shared, answers::other_answers),
    attack("G17-huge-events", DenialOfService, "an event of 24 MiB", Own, answers::huge_events),
    attack("G18-memory", Key, "another process of its user reads its memory", Unprivileged, process::memory),
    attack("G18-environment", Key, "what its environment held", Own, process::environment),
    attack("G18-core", Key, "a core file", Unprivileged, process::core),
    attack("G18-swapped", Key, "the key in pages that may be swapped out", Own, process::swapped),
    attack("G18-descriptors", Key, "descriptors, arguments", Own, process::descriptors),
    attack("G18-ledger-lines", Exfiltration, "words of the job in ledger and log, requests without a line", Own, process::ledger_lines),
    attack("G18-ledger-chain", Exfiltration, "a changed, lost, added line", Own, process::ledger_chain),
    attack("G19-requests", Lateral, "another job's name in requests", Shared, jobs::requests),
    attack("G19-sealed", Lateral, "another job's encrypted thoughts", Shared, jobs::sealed),
    attack("G19-slot-theft", Lateral, "another job's slot, another's place in the queue", Own, jobs::slot_theft),
    attack("G19-connections", DenialOfService, "200 connections of one job", Own, jobs::connections),
    attack("G19-all-connections", DenialOfService, "40 connections of five jobs where 16 are allowed", Own, jobs::all_connections),
    attack("G19-control", Lateral, "control requests on the job's socket", Shared, jobs::control),
    attack("G19-modes", Key, "files and sockets open to others", Own, jobs::modes),
    attack("G19-messages", Lateral, "hearing of another job's requests", Shared, jobs::messages),
];

/// The same as the suite knows them.
pub const CASES: &[Case] = &cases(&ATTACKS);

const fn cases<const N: usize>(attacks: &[Attack; N]) -> [Case; N] {
    let mut cases = [Case { id: "", promise: Promise::Key, tries: "" }; N];
    let mut n = 0;
    while n < N {
        cases[n] = Case { id: attacks[n].id, promise: attacks[n].promise, tries: attacks[n].tries };
        n += 1;
    }
    cases
}

/// One rule of the gateway taken away, and what succeeds then.
const fn point(point: &'static [&'static str; 1], breaches: &'static [&'static str]) -> Weakening {
    Weakening::point(point, breaches)
}

pub const CONTROLS: &[Weakening] = &[
    point(&["policy.json_too_deep"], &["G16-depth"]),
    point(&["policy.json_too_large"], &["G16-values", "G13-heavy-trees"]),
    point(&["policy.duplicate_key"], &["G16-duplicate-keys"]),
    point(&["policy.unknown_key"], &["G08-unknown-keys"]),
    point(&["policy.stored_state"], &["G08-stored-state"]),
    point(&["policy.include"], &["G08-includes"]),
    point(&["policy.model"], &["G09-models", "G09-model-names"]),
    point(&["policy.malformed"], &["G08-forms", "G16-without-input"]),
    point(&["policy.too_many"], &["G16-too-many"]),
    point(&["policy.too_long"], &["G16-too-long"]),
    point(&["policy.tool_choice"], &["G06-tool-choice"]),
    point(&["policy.hosted_tool"], &["G06-hosted-tools"]),
    point(&["policy.tool_key"], &["G06-tool-keys"]),
    point(&["policy.schema_ref"], &["G06-schema-references"]),
    point(&["policy.input_kind"], &["G08-item-kinds"]),
    point(&["policy.input_key"], &["G08-item-keys"]),
    point(&["policy.hosted_call"], &["G06-hosted-calls"]),
    point(&["policy.content_kind"], &["G07-files"]),
    point(&["policy.content_key"], &["G07-part-keys"]),
    point(&["policy.remote_content"], &["G07-remote-images"]),
    point(&["policy.sealed"], &["G19-sealed"]),
    point(&["policy.user"], &["G10-identity"]),
    point(&["policy.cache_key"], &["G10-identity", "G10-cache"]),
    point(&["policy.metadata"], &["G10-metadata"]),
    point(&["policy.service_tier"], &["G10-service"]),
    point(&["policy.item_id"], &["G08-item-ids"]),
    point(&["policy.force_store"], &["G08-storing"]),
    point(&["policy.force_stream"], &["G08-storing"]),
    point(&["response.key"], &["G12-in-an-answer", "G12-escaped", "G12-in-pieces"]),
    point(&["response.types"], &["G17-unknown-events"]),
    point(&["response.items"], &["G17-hosted-calls"]),
    point(&["response.rebuild"], &["G17-unknown-fields"]),
    point(&["response.errors"], &["G12-in-a-failure", "G12-in-a-failed-event"]),
    point(&["response.size"], &["G17-huge-events"]),
    point(&["gateway.path"], &["G01-paths", "G02-path-tricks", "G02-query", "G02-other-targets"]),
    point(&["gateway.method"], &["G01-methods"]),
    point(&["gateway.version"], &["G02-versions"]),
    point(&["gateway.upgrade"], &["G04-upgrades"]),
    point(&["gateway.content_type"], &["G04-body-kinds"]),
    point(&["gateway.content_encoding"], &["G04-body-codings"]),
    point(&["gateway.body_size"], &["G16-size", "G13-endless-bodies"]),
    point(&["gateway.buffered"], &["G13-many-bodies"]),
    point(&["gateway.head_size"], &["G13-huge-heads"]),
    point(&["gateway.headers"], &["G13-huge-heads"]),
    point(&["gateway.preamble_time"], &["G13-slow-heads"]),
    point(&["gateway.head_time"], &["G13-stalled-heads"]),
    point(&["gateway.body_time"], &["G13-stalled-bodies"]),
    point(&["gateway.client_time"], &["G13-stalled-readers"]),
    point(&["gateway.strangers"], &["G13-silent-connections"]),
    point(&["gateway.job_connections"], &["G19-connections"]),
    point(&["gateway.connections"], &["G19-all-connections"]),
    point(&["gateway.in_flight"], &["G11-in-flight"]),
    point(&["gateway.under_way"], &["G11-under-way"]),
    point(&["gateway.requests"], &["G11-requests"]),
    point(&["gateway.denials"], &["G11-denials"]),
    point(&["gateway.day_tokens"], &["G11-day-tokens"]),
    point(&["gateway.pass"], &["G14-passes", "G15-dummy-key"]),
    point(&["gateway.expiry"], &["G14-expired"]),
    point(&["gateway.cut"], &["G14-revoked"]),
    point(&["gateway.slot_needed"], &["G14-without-slot"]),
    point(&["gateway.core"], &["G18-core"]),
    point(&["gateway.dumpable"], &["G18-memory"]),
    point(&["gateway.environment"], &["G18-environment"]),
    Weakening {
        name: "gateway.environment and gateway.proxy",
        points: &["gateway.environment", "gateway.proxy"],
        job: "",
        gateway: "",
        breaches: &["G12-proxies"],
    },
    point(&["gateway.redirects"], &["G12-redirects"]),
    point(&["gateway.chain"], &["G18-ledger-chain"]),
    point(&["gateway.modes"], &["G19-modes"]),
    point(&["gateway.locked"], &["G18-swapped"]),
    point(&["budget.reserve"], &["G11-parallel"]),
    point(&["budget.max_output"], &["G11-huge-output", "G11-overshoot"]),
    point(&["budget.input"], &["G11-large-input"]),
    point(&["budget.keep_unknown"], &["G11-aborts", "G11-early-aborts", "G11-usage-omitted", "G11-cut-answers"]),
    point(&["budget.record"], &["G11-crashes"]),
];

/// None that is no control.
pub const MUTATIONS: &[Weakening] = &[];

pub const NO_CONTROL: &[(&str, &str)] = &[
    ("G03-smuggling", "hyper's own reader refuses it, or the request ends there; there is no code of ours to take away"),
    ("G03-pipelining", "hyper's own reader refuses it, or the request ends there; there is no code of ours to take away"),
    ("G04-tunnels", "hyper's own reader refuses it, or the request ends there; there is no code of ours to take away"),
    ("G05-headers", "the gateway never forwards: a request is written anew from the checked body, so there is no code that could be taken away"),
    ("G12-beside-an-answer", "cut before it is masked: what is not part of an event is not written at all, so there is no rule to take away"),
    ("G12-in-headers", "failures and heads are written in our own words; the provider's are never copied, so there is nothing to take away"),
    ("G12-resting-places", "nothing writes it there; the case watches that nothing begins to"),
    ("G12-passes-at-rest", "only the digest is kept; there is no pass to write"),
    ("G13-never-reads", "bounded by the fixed size of what is read or queued, not by a rule"),
    ("G13-endless-first-lines", "bounded by the fixed size of what is read or queued, not by a rule"),
    ("G14-preambles", "the first line is read into a closed type; without it there is no connection to attack"),
    ("G14-names", "the first line is read into a closed type; without it there is no connection to attack"),
    ("G14-slot-misuse", "what a job writes on its slot connection is read and thrown away; there is no reader to unleash"),
    ("G16-malformed", "a document that cannot be read leaves nothing that could be sent"),
    ("G16-no-object", "a document that is no object leaves nothing that could be sent"),
    ("G17-not-events", "only events are written; there is no code that copies lines"),
    ("G17-other-answers", "an answer that is no stream has no events to write"),
    ("G18-descriptors", "nothing opens more; the case watches that nothing begins to"),
    ("G18-ledger-lines", "no line has a field for content; the case watches that none gets one"),
    ("G19-requests", "a connection belongs to one job from its first line on"),
    ("G19-slot-theft", "the queue knows who holds a slot; it asks nobody"),
    ("G19-control", "the job's socket has no reader for control requests"),
    ("G19-messages", "a message is put into the queue of its own job only"),
];
