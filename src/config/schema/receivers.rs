//! Keys of `receivers:` and `incidents:`.

use super::{HOUR, Key, SECOND, SEVERITIES, Shape, key, span_ms, text, whole};

/// Items of `receivers:`
pub const RECEIVER: &[Key] = &[
    key("name", text("on-call"), "Unique name. Required."),
    key(
        "webhook",
        Shape::Section(WEBHOOK),
        "HTTP POST of a CloudEvent, signed after Standard Webhooks. This or one of the next four is required.",
    ),
    key(
        "pagerduty",
        Shape::Alternative(PAGERDUTY),
        "PagerDuty, Events API v2.",
    ),
    key(
        "alertmanager",
        Shape::Alternative(ALERTMANAGER),
        "Prometheus Alertmanager, API v2.",
    ),
    key(
        "slack",
        Shape::Alternative(SLACK),
        "Slack, an incoming webhook.",
    ),
    key(
        "sns",
        Shape::Alternative(SNS),
        "Amazon SNS, a topic, standard or FIFO. Needs a build with `aws`. Credentials come from where Amazon's tools look \
         for them: environment, profile, web identity, container, instance.",
    ),
    key(
        "template",
        Shape::Section(TEMPLATE),
        "What it says instead of our own words, in Jinja; fields are those of the message, see docs/incidents.md.",
    ),
    key(
        "proxy",
        Shape::Secret {
            sample: "http://proxy.example.com:3128",
        },
        "HTTP proxy for this receiver; those of the environment are not used.",
    ),
    key(
        "min_severity",
        Shape::Word {
            default: "warning",
            of: SEVERITIES,
        },
        "Only incidents of at least this severity are told.",
    ),
    key(
        "only",
        Shape::Free {
            sample: "region: eu, stream: \"news*\"",
        },
        "Only incidents for which all of these fit: labels, `stream`, `topic`; a value may end in `*`. What is about several \
         streams fits when one of them does; what is about the monitor itself always fits.",
    ),
    key(
        "allow_private",
        Shape::Flag { default: false },
        "Whether private, link-local and loopback addresses may be called.",
    ),
    key(
        "canary",
        Shape::Flag { default: false },
        "Whether it gets the alerts of the canary, and only those. With such receivers all of them must take the alert; \
         without, the canary ends where alerts are handed to receivers.",
    ),
];

/// `template:` of a receiver
pub const TEMPLATE: &[Key] = &[
    key(
        "title",
        text("\"{{ severity | upper }} {{ name }} {{ labels.region }}: {{ cause }}\""),
        "One line. Default: the message's `title`.",
    ),
    key(
        "text",
        text("\"{{ text }} Look at https://wiki.example.com/{{ topic }}\""),
        "What else is said; in Slack markup is yours, and what stands in fields is escaped. Default: the message's `text`.",
    ),
];

/// `canary:`
pub const CANARY: &[Key] = &[
    key(
        "every",
        span_ms(600 * SECOND, 0, 24 * HOUR),
        "How often. 0s: never.",
    ),
    key(
        "within",
        span_ms(60 * SECOND, SECOND, HOUR),
        "The alert must arrive so soon after the defect began, or everybody else is told that alerts do not arrive.",
    ),
];

/// `heartbeat:`
pub const HEARTBEAT: &[Key] = &[
    key(
        "endpoint",
        Shape::Secret {
            sample: "https://hc-ping.example.com/00000000-0000-0000-0000-000000000000",
        },
        "Where to; POST without a body. Nothing is sent while alerts do not arrive. Default: no heartbeat.",
    ),
    key("every", span_ms(60 * SECOND, SECOND, HOUR), "How often."),
    key(
        "allow_private",
        Shape::Flag { default: false },
        "Whether private, link-local and loopback addresses may be called.",
    ),
];

/// `webhook:`
pub const WEBHOOK: &[Key] = &[
    key(
        "url",
        Shape::Secret {
            sample: "https://alerts.example.com/hook",
        },
        "Endpoint, http or https. Required.",
    ),
    key(
        "secret",
        Shape::Secret {
            sample: "whsec_Z2xhc3N3YXRjaC1zaWduaW5nLWtleQ==",
        },
        "Signing key: `whsec_` and base64; two with a space between while keys change. Default: not signed.",
    ),
    TIMEOUT,
];

const TIMEOUT: Key = key(
    "timeout",
    span_ms(15 * SECOND, 100, 60 * SECOND),
    "Deadline of one attempt.",
);

/// `pagerduty:`
pub const PAGERDUTY: &[Key] = &[
    key(
        "routing_key",
        Shape::Secret {
            sample: "0123456789abcdef0123456789abcdef",
        },
        "Integration key of the service. Required.",
    ),
    key(
        "endpoint",
        Shape::Secret {
            sample: "https://events.eu.pagerduty.com/v2/enqueue",
        },
        "Default: `https://events.pagerduty.com/v2/enqueue`.",
    ),
    TIMEOUT,
];

/// `alertmanager:`
pub const ALERTMANAGER: &[Key] = &[
    key(
        "peers",
        Shape::Texts {
            default: &[],
            sample: "[http://alertmanager-0:9093, http://alertmanager-1:9093]",
        },
        "Base URLs of all members of the cluster: each is told. Required.",
    ),
    key(
        "token",
        Shape::Secret {
            sample: "${ALERTMANAGER_TOKEN}",
        },
        "Bearer token.",
    ),
    TIMEOUT,
];

/// `slack:`
pub const SLACK: &[Key] = &[
    key(
        "url",
        Shape::Secret {
            sample: "https://hooks.slack.com/services/T000/B000/token",
        },
        "URL of the incoming webhook. Required.",
    ),
    TIMEOUT,
];

/// `sns:`
pub const SNS: &[Key] = &[
    key(
        "topic_arn",
        text("arn:aws:sns:eu-central-1:123456789012:alerts"),
        "ARN of the topic; a name that ends in `.fifo` is a FIFO topic's. Required.",
    ),
    key(
        "region",
        text("eu-west-1"),
        "Region to call. Default: the ARN's.",
    ),
    key(
        "endpoint",
        Shape::Secret {
            sample: "https://vpce-0a1b.sns.eu-central-1.vpce.amazonaws.com",
        },
        "Default: the region's own. Where that resolves to private addresses, `allow_private` is needed.",
    ),
    TIMEOUT,
];

/// `evidence:`
pub const EVIDENCE: &[Key] = &[key(
    "s3",
    Shape::Section(S3),
    "A bucket of Amazon S3, or of a server that speaks like it, to which every file of a set is copied after it was \
     written. Default: none. Needs a build with `aws`; credentials as for the receiver `sns`.",
)];

/// `evidence.s3:`
pub const S3: &[Key] = &[
    key("bucket", text("evidence"), "Name of the bucket. Required."),
    key(
        "region",
        text("eu-central-1"),
        "Region of the bucket. Required.",
    ),
    key(
        "prefix",
        text("glasswatch"),
        "What keys begin with; `/`, instance, stream and set follow. At most 64 of letters, digits, `-`, `_`, `.` and `/`. \
         Default: nothing.",
    ),
    key(
        "endpoint",
        Shape::Secret {
            sample: "https://s3.example.com",
        },
        "Default: the region's own. With one, the bucket is named in the path.",
    ),
    key(
        "timeout",
        span_ms(60 * SECOND, SECOND, 600 * SECOND),
        "Deadline of one file.",
    ),
    key(
        "allow_private",
        Shape::Flag { default: false },
        "Whether private, link-local and loopback addresses may be called.",
    ),
];

/// `incidents:`
pub const INCIDENTS: &[Key] = &[
    key(
        "group_by",
        Shape::Texts {
            default: &["origin", "cdn", "encoder", "region"],
            sample: "[origin, cdn, encoder, region]",
        },
        "Labels whose value streams share with a common cause. Streams with one value that fail together make one \
         incident; the first label is preferred among equals.",
    ),
    key(
        "together_streams",
        whole(5, 2, 10_000),
        "So many streams fail together, at least.",
    ),
    key(
        "together_percent",
        whole(50, 1, 100),
        "... and at least this part of those with the label value.",
    ),
    key(
        "together_within",
        span_ms(30 * SECOND, SECOND, 600 * SECOND),
        "... within this time.",
    ),
    key(
        "hold",
        span_ms(15 * SECOND, 0, 60 * SECOND),
        "A lost input that may be one of many is held for so long.",
    ),
    key(
        "resolve_after",
        span_ms(30 * SECOND, 0, HOUR),
        "An incident ends when it was well for so long.",
    ),
    key(
        "repage_after",
        span_ms(300 * SECOND, 0, 24 * HOUR),
        "What comes again so soon after it was told waits until then, if it is still bad.",
    ),
    key(
        "update_every",
        span_ms(60 * SECOND, SECOND, HOUR),
        "Least time between two updates, unless it gets worse.",
    ),
    key(
        "escalate_times",
        whole(5, 0, 20),
        "A warning that comes so often pages. 0: never.",
    ),
    key(
        "escalate_within",
        span_ms(600 * SECOND, SECOND, 24 * HOUR),
        "... within this time.",
    ),
    key(
        "break_slack",
        span_ms(30 * SECOND, 0, HOUR),
        "A break, a slate or a black may last for so long beyond the announced end of the break.",
    ),
    key(
        "unannounced_break",
        span_ms(120 * SECOND, 0, HOUR),
        "A slate that nobody announced, or a break of unknown length, may last for so long.",
    ),
];
