//! The OpenAPI document: `/api/v1/openapi.json`, generated from `routes` and the table of schemas here.

use axum::Json;
use serde_json::{Map, Value, json};

use super::routes::{self, Gives, Route};

/// Name, type, meaning. A type is a JSON type or a schema; `?` also takes null, `[…]` is a list, `{…}` an object with free
/// keys.
type Field = (&'static str, &'static str, &'static str);

/// An object that the API takes or gives.
struct Schema {
    name: &'static str,
    says: &'static str,
    fields: &'static [Field],
    /// Fields that may be missing.
    optional: &'static [&'static str],
}

const fn schema(name: &'static str, says: &'static str, fields: &'static [Field]) -> Schema {
    Schema {
        name,
        says,
        fields,
        optional: &[],
    }
}

const SCHEMAS: &[Schema] = &[
    schema(
        "Message",
        "An incident; docs/incidents.md has more on every field.",
        &[
            ("schema_version", "integer", "Version of this shape."),
            (
                "message_id",
                "string",
                "Unique for each change: drop repeats by it.",
            ),
            (
                "news",
                "string",
                "`raised`, `updated`, `acknowledged`, `resolved` or `recorded`.",
            ),
            (
                "incident_id",
                "string",
                "One occurrence: the same from raised to resolved.",
            ),
            (
                "key",
                "string",
                "The same for every occurrence, on every instance.",
            ),
            ("incarnation", "integer", "Which occurrence: grows."),
            (
                "sequence",
                "integer",
                "Counts the changes of this occurrence.",
            ),
            ("state", "string", "`open` or `resolved`."),
            (
                "severity",
                "string",
                "`info`, `warning` or `critical`: the worst so far.",
            ),
            ("tier", "string", "`record`, `ticket` or `page`."),
            (
                "topic",
                "string",
                "`input`, `programme`, `blind`, `together`, `monitor`, or a detector.",
            ),
            (
                "stream",
                "string?",
                "Stream; null when it is about several.",
            ),
            ("name", "string", "Name for people."),
            (
                "labels",
                "{string}",
                "Labels of the stream, or those that the streams share.",
            ),
            (
                "cause",
                "string",
                "Machine-readable cause of the worst defect.",
            ),
            ("title", "string", "One sentence."),
            ("text", "string", "What else there is to know."),
            ("instance", "string", "Which process saw it."),
            ("quiet", "string?", "Why it is recorded and not told."),
            ("quiet_by", "string?", "The parent or the mute behind that."),
            ("flapping", "boolean", "It comes and goes."),
            ("escalated", "boolean", "It pages because it came so often."),
            ("overran", "boolean", "A break lasts longer than announced."),
            (
                "unknown",
                "boolean",
                "Taken up after a restart, nothing measured since.",
            ),
            (
                "times",
                "integer",
                "How often it turned bad since it was opened.",
            ),
            (
                "streams",
                "[string]",
                "Of a parent: streams that fail, at most 50.",
            ),
            ("streams_bad", "integer", "Of a parent: how many fail."),
            (
                "streams_total",
                "integer",
                "Of a parent: how many share the value.",
            ),
            (
                "whole_instance",
                "boolean",
                "Every stream of the instance is bad.",
            ),
            ("acknowledged_by", "string?", "Who has taken it on."),
            ("opened", "string", "UTC."),
            ("resolved", "string?", "UTC."),
            ("at", "string", "When this change was decided, UTC."),
            (
                "defects",
                "[Defect]",
                "At most 10, open and bad ones first.",
            ),
        ],
    ),
    schema(
        "Defect",
        "A rule that fired on a track.",
        &[
            ("defect_id", "string", "As in its events."),
            ("detector", "string", "Detector."),
            ("rule", "string", "Rule."),
            ("severity", "string", "`info`, `warning` or `critical`."),
            ("cause", "string", "Machine-readable cause."),
            ("place", "string?", "Where it came in."),
            (
                "track",
                "string?",
                "`video:0`, `audio:1`; null for the stream as a whole.",
            ),
            ("member", "string?", "Rendition of the track."),
            ("value", "number?", "Measured value, worst so far."),
            ("limit", "number", "The limit it broke."),
            ("unit", "string", "Unit of both."),
            ("says", "string", "What a viewer notices."),
            ("start", "string", "UTC."),
            ("end", "string?", "UTC; null while it is open."),
            (
                "evidence",
                "[string]",
                "Sets of evidence: served at `/api/v1/` and this path; in a bucket where it begins with `s3://`.",
            ),
            (
                "links",
                "[string]",
                "For receivers: a link to each set that needs no token.",
            ),
        ],
    ),
    schema(
        "Incidents",
        "Incidents.",
        &[
            ("open", "[Message]", "Worst first."),
            ("past", "[Message]", "Newest first."),
        ],
    ),
    schema(
        "Taken",
        "Who takes an incident on.",
        &[("by", "string", "Name, at most 256 bytes.")],
    ),
    schema(
        "Acknowledged",
        "An incident is taken on.",
        &[
            ("incident_id", "string", "Incident."),
            ("acknowledged_by", "string", "Who."),
        ],
    ),
    schema(
        "Verdict",
        "What somebody thinks of an alert.",
        &[
            ("by", "string", "Name, at most 256 bytes."),
            ("verdict", "string", "`false_alarm` or `right`."),
            ("note", "string?", "Why, at most 2000 bytes."),
        ],
    ),
    schema(
        "Feedback",
        "What somebody thinks of an alert, with the incident as it stood.",
        &[
            ("at", "string", "UTC."),
            ("by", "string", "Who."),
            ("verdict", "string", "`false_alarm` or `right`."),
            ("note", "string", "Why."),
            ("incident", "Message", "As it stood."),
        ],
    ),
    schema(
        "FeedbackList",
        "What people said of alerts.",
        &[("entries", "[Feedback]", "Newest first.")],
    ),
    schema(
        "Mute",
        "What is not told, for a time.",
        &[
            ("id", "string", "Unique."),
            (
                "matchers",
                "{string}",
                "All must fit: label names, `stream`, `topic`; a value may end in `*`.",
            ),
            ("author", "string", "Who."),
            ("reason", "string", "Why."),
            ("from", "string", "UTC."),
            ("until", "string", "UTC."),
        ],
    ),
    schema("Mutes", "Mutes.", &[("mutes", "[Mute]", "By id.")]),
    Schema {
        name: "MuteRequest",
        says: "A mute that is wanted; `until` or `for_secs` is needed.",
        fields: &[
            ("matchers", "{string}", "As of Mute."),
            ("author", "string", "Who, at most 256 bytes."),
            ("reason", "string", "Why, at most 256 bytes."),
            ("from", "string", "RFC 3339; missing: now."),
            ("until", "string", "RFC 3339; at most 7 days after `from`."),
            ("for_secs", "integer", "Seconds from `from` on."),
            ("preview", "boolean", "Only say what it would hide."),
            ("confirm", "boolean", "Needed when it hides every stream."),
        ],
        optional: &["from", "until", "for_secs", "preview", "confirm"],
    },
    schema(
        "MuteSet",
        "A mute and what it hides.",
        &[
            ("mute", "Mute", "The mute."),
            ("streams", "[string]", "Streams that it hides."),
            ("streams_total", "integer", "How many there are."),
        ],
    ),
    schema(
        "Streams",
        "All streams.",
        &[
            ("instance", "string", "Name of the process."),
            ("unready", "string?", "Why the process is not ready."),
            (
                "streams",
                "[StreamBrief]",
                "In the order of the configuration.",
            ),
        ],
    ),
    schema(
        "StreamBrief",
        "A stream in brief.",
        &[
            ("id", "string", "Stream id."),
            (
                "origin",
                "string",
                "`file` or `api`: where it was written, and may be changed.",
            ),
            ("labels", "{string}", "Labels."),
            ("protocol", "string", "How it comes."),
            (
                "state",
                "string",
                "`connecting`, `running`, `degraded`, `down` or `ended`.",
            ),
            ("cause", "string?", "Why it is down."),
            ("tracks", "[string]", "`video:0`, `audio:0`."),
            ("open_defects", "integer", "How many."),
            ("worst_severity", "string?", "Of the open defects."),
            (
                "last_picture_utc",
                "string?",
                "When the newest picture arrived.",
            ),
        ],
    ),
    schema(
        "Stream",
        "A stream in full.",
        &[
            (
                "stream",
                "{any}",
                "As StreamBrief, with tracks, readings and detectors.",
            ),
            ("defects", "[{any}]", "Open defects, see docs/events.md."),
        ],
    ),
    schema(
        "StreamEntry",
        "As an item of `streams:` of the configuration file, without `${…}` and `…_file`; `id` may be missing.",
        &[("url", "string", "Where it comes from.")],
    ),
    schema(
        "StreamEffective",
        "A stream as it is watched.",
        &[
            ("origin", "string", "`api`."),
            (
                "stream",
                "{any}",
                "As an item of `streams:`, every default written out, secrets masked.",
            ),
        ],
    ),
    Schema {
        name: "Defects",
        says: "Defects, see docs/events.md.",
        fields: &[
            ("open", "[{any}]", "Open ones."),
            ("recent", "[{any}]", "Recent events."),
        ],
        optional: &["recent"],
    },
    schema(
        "EvidenceSet",
        "A set of evidence.",
        &[
            ("set", "string", "Path of the set."),
            ("files", "[string]", "Names of its files."),
        ],
    ),
    schema(
        "Audit",
        "Who changed what.",
        &[("entries", "[AuditEntry]", "Newest first.")],
    ),
    schema(
        "AuditEntry",
        "A call that changed something, or was refused.",
        &[
            ("at", "string", "UTC."),
            (
                "by",
                "string",
                "Name of the token, `http.token`, or `local` where none is asked for.",
            ),
            ("from", "string", "Address."),
            ("call", "string", "Method and path."),
            ("status", "integer", "Answer."),
            ("detail", "any", "What it changed."),
        ],
    ),
    schema(
        "Version",
        "Versions.",
        &[
            ("name", "string", "`glasswatch`."),
            ("version", "string", "Of the program."),
            ("gstreamer", "string", "Of GStreamer."),
            ("event_schema_version", "integer", "Of the events."),
        ],
    ),
    Schema {
        name: "Problem",
        says: "Why a call failed.",
        fields: &[
            ("status", "integer", "As the answer's own."),
            ("error", "string", "What is wrong."),
            (
                "problems",
                "[{any}]",
                "Of a stream: everything that is wrong, each with `path`, `message` and `hint`.",
            ),
        ],
        optional: &["problems"],
    },
    schema("Document", "An OpenAPI document.", &[]),
];

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// A type as JSON Schema.
fn typed(kind: &str) -> Value {
    if let Some(kind) = kind.strip_suffix('?') {
        return json!({ "type": [kind, "null"] });
    }
    let within = |open, close| kind.strip_prefix(open).and_then(|k| k.strip_suffix(close));
    if let Some(items) = within('[', ']') {
        return json!({ "type": "array", "items": typed(items) });
    }
    if let Some(values) = within('{', '}') {
        return json!({ "type": "object", "additionalProperties": typed(values) });
    }
    match kind {
        "any" => json!({}),
        kind if kind.starts_with(char::is_uppercase) => reference(kind),
        kind => json!({ "type": kind }),
    }
}

fn described(kind: &str, says: &str) -> Value {
    let mut value = typed(kind);
    value["description"] = says.into();
    value
}

fn object(schema: &Schema) -> Value {
    let named = |(name, kind, says): &Field| ((*name).to_owned(), described(kind, says));
    let names = schema.fields.iter().map(|(name, ..)| *name);
    let required: Vec<&str> = names.filter(|n| !schema.optional.contains(n)).collect();
    json!({
        "type": "object",
        "description": schema.says,
        "properties": schema.fields.iter().map(named).collect::<Map<_, _>>(),
        "required": required,
    })
}

/// The path as OpenAPI writes it, and the names of its parameters.
fn path(route: &Route) -> (String, Vec<&'static str>) {
    let inside = route.path.split('{').skip(1);
    let names = inside.filter_map(|part| part.split('}').next());
    let names = names.map(|name| name.trim_start_matches('*')).collect();
    (route.path.replace("{*", "{"), names)
}

fn operation(route: &Route) -> Value {
    let parameter = |name: &str, place: &str, kind: &str, says: &str| {
        json!({
            "name": name, "in": place, "required": place == "path",
            "description": says, "schema": { "type": kind },
        })
    };
    let in_path = path(route).1.into_iter();
    let in_path = in_path.map(|name| parameter(name, "path", "string", "Which one."));
    let in_query =
        (route.query.iter()).map(|(name, kind, says)| parameter(name, "query", kind, says));
    let content = match route.gives.1 {
        Gives::Json(schema) => json!({ "application/json": { "schema": reference(schema) } }),
        Gives::Media(kind) => json!({ kind: {} }),
        Gives::Nothing => Value::Null,
    };
    let mut answers = Map::new();
    let mut fine = json!({ "description": "As asked." });
    if !content.is_null() {
        fine["content"] = content;
    }
    answers.insert(route.gives.0.to_string(), fine);
    let unknown = route.needs.map(|_| &401);
    for status in route.refuses.iter().chain(unknown) {
        let content = json!({ "application/json": { "schema": reference("Problem") } });
        let says = match status {
            400 => "The call is not understood.",
            401 => "A token is needed.",
            403 => "The token, the origin or the link does not allow it.",
            404 => "There is no such thing.",
            409 => {
                "It would hide everything and that was not confirmed, or it is the file's or another shard's."
            }
            413 => "The body is too large.",
            422 => "What is asked for cannot be.",
            429 => "Too many changes from this address; `retry-after` says when.",
            _ => "Not now.",
        };
        answers.insert(
            status.to_string(),
            json!({ "description": says, "content": content }),
        );
    }
    let mut operation = json!({
        "summary": route.says,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": answers,
        "security": [],
    });
    if let Some(scope) = route.needs {
        // OpenAPI 3.1 lets any kind of security name roles; without a token configured, none is asked for.
        operation["security"] = json!([{ "token": [scope.as_str()] }]);
    }
    if let Some(body) = route.body {
        let content = json!({ "application/json": { "schema": reference(body) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// The whole document.
fn all() -> Value {
    let mut paths = Map::new();
    for route in routes::ALL {
        let place = paths.entry(path(route).0).or_insert_with(|| json!({}));
        place[route.method] = operation(route);
    }
    let schemas = SCHEMAS.iter().map(|s| (s.name.to_owned(), object(s)));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Glasswatch",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Fields may be added within /api/v1; none is renamed or removed.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.collect::<Map<_, _>>(),
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "`http.token` or one of `http.tokens`; the role is its scope.",
                },
            },
        },
    })
}

pub(super) async fn document() -> Json<Value> {
    Json(all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::collections::BTreeSet;

    use super::*;
    use crate::notify::notice::Message;

    #[test]
    fn every_route_is_described_once_and_every_reference_leads_somewhere() {
        let document = all();
        let mut seen = BTreeSet::new();
        for route in routes::ALL {
            assert!(
                seen.insert((route.method, route.path)),
                "{} twice",
                route.path
            );
            let said = &document["paths"][path(route).0][route.method];
            assert_eq!(said["summary"], route.says);
            assert!(route.says.ends_with('.'), "{}", route.path);
        }
        let described = document["paths"].as_object().unwrap().values();
        let described: usize = described.map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(described, routes::ALL.len());
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at + 21..].split('"').next().unwrap();
            assert!(SCHEMAS.iter().any(|s| s.name == name), "{name}");
        }
        for schema in SCHEMAS.iter().filter(|s| s.name != "Message") {
            let used = text.contains(&format!("#/components/schemas/{}\"", schema.name));
            assert!(used, "{} is not used", schema.name);
        }
    }

    /// Only reading and the page's own files are free of what guards changes.
    #[test]
    fn what_changes_something_needs_more_than_reading() {
        for route in routes::ALL {
            let changes = route.method != "get";
            let more = route.needs > Some(crate::config::Scope::Read);
            assert_eq!(changes, more, "{} {}", route.method, route.path);
            let limited = route.refuses.contains(&429) && route.refuses.contains(&403);
            assert_eq!(changes, limited, "{} {}", route.method, route.path);
        }
    }

    fn fields(of: &str) -> BTreeSet<String> {
        let schema = SCHEMAS.iter().find(|s| s.name == of).unwrap();
        schema.fields.iter().map(|f| f.0.to_owned()).collect()
    }

    /// A message is read back from what the document says of it, field by field: none is unknown, none is too much.
    #[test]
    fn messages_are_described_field_by_field() {
        let sample = |of: &str| -> Map<String, Value> {
            let schema = SCHEMAS.iter().find(|s| s.name == of).unwrap();
            let value = |kind: &str| match kind {
                "string" => json!("x"),
                "integer" => json!(1),
                "number" => json!(1.5),
                "boolean" => json!(true),
                kind if kind.ends_with('?') => Value::Null,
                kind if kind.starts_with('[') => json!([]),
                kind if kind.starts_with('{') => json!({}),
                kind => panic!("{kind}"),
            };
            let fields = schema.fields.iter();
            fields
                .map(|(name, kind, _)| ((*name).to_owned(), value(kind)))
                .collect()
        };
        let mut message = sample("Message");
        message["defects"] = json!([sample("Defect")]);
        let read: Message = serde_json::from_value(message.into()).unwrap();
        let written = serde_json::to_value(read).unwrap();
        let keys = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&written), fields("Message"));
        assert_eq!(keys(&written["defects"][0]), fields("Defect"));
        let told = std::fs::read_to_string("docs/incidents.md").unwrap();
        for field in fields("Message").iter().chain(&fields("Defect")) {
            assert!(
                told.contains(&format!("`{field}`")),
                "docs/incidents.md lacks {field}"
            );
        }
    }
}
