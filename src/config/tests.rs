//! Tests of the configuration as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use detectors::base::Severity;
use detectors::registry::REGISTRY;

use super::*;

fn env() -> Env {
    let mut env = Env {
        file: "config.yaml".into(),
        base: "/base".into(),
        host: "host-7".into(),
        ..Env::default()
    };
    env.vars.insert("KEY".into(), "hidden-passphrase".into());
    env.vars.insert("PORT".into(), "7".into());
    env.files.insert(
        "url.txt".into(),
        Ok("srt://a.example:1?passphrase=hidden-in-a-file\n".into()),
    );
    env
}

fn parse(text: &str) -> Config {
    Config::parse(text, &env()).unwrap_or_else(|e| unreachable!("{e}"))
}

fn problems(text: &str) -> String {
    match Config::parse(text, &env()) {
        Ok(_) => unreachable!("taken as valid: {text}"),
        Err(e) => e.to_string(),
    }
}

const ONE: &str = "version: 1\nstreams:\n  - {id: a, url: 'https://a.example/x.m3u8'}\n";

#[test]
fn defaults_are_those_of_the_types() {
    let config = parse(ONE);
    assert_eq!(config.instance.name, "host-7");
    assert_eq!(config.http.listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(config.instance.drain, Duration::from_secs(25));
    let stream = &config.streams[0];
    assert_eq!(stream.input.limits, Limits::default());
    assert_eq!(stream.input.decode, Decode::default());
    assert_eq!(stream.input.protocol, Protocol::Hls);
    assert!(!stream.input.allow_private);
    assert_eq!(stream.detectors.len(), REGISTRY.len());
}

#[test]
fn streams_lie_on_profiles_on_defaults() {
    let config = parse(
        "version: 1
defaults: {jitter: 1s, rendition: {height: 720}, labels: {a: d, b: d, c: d}, srt: {latency: 1s}}
profiles:
  p: {jitter: 2s, rendition: lowest, labels: {b: p, c: p}}
streams:
  - {id: a, url: 'https://a.example/', labels: {c: s}, profile: p, srt: {mode: listener}}
  - {id: b, url: 'https://a.example/'}
",
    );
    let (a, b) = (&config.streams[0], &config.streams[1]);
    assert_eq!(a.input.jitter, Duration::from_secs(2));
    assert_eq!(a.input.rendition, Rendition::Lowest);
    let labels: Vec<_> = a.labels.iter().map(|(k, v)| format!("{k}{v}")).collect();
    assert_eq!(labels, ["ad", "bp", "cs"]);
    assert_eq!(
        (a.input.srt.mode, a.input.srt.latency),
        (SrtMode::Listener, Duration::from_secs(1))
    );
    assert_eq!(b.input.jitter, Duration::from_secs(1));
    assert_eq!(b.input.rendition, Rendition::Height(720));
}

#[test]
fn several_renditions_are_a_word_or_a_list() {
    let with = |rule: &str| parse(&ONE.replace("id: a", &format!("id: a, rendition: {rule}")));
    let of = |rule: &str| with(rule).streams[0].input.rendition.clone();
    assert_eq!(of("all"), Rendition::All);
    assert_eq!(of("ends"), Rendition::Ends);
    let list = vec![Rendition::Highest, Rendition::Bandwidth(800_000)];
    let several = of("[highest, {bandwidth_bps: 800000}]");
    assert_eq!(several, Rendition::Several(list));
    assert!(several.is_several() && !of("lowest").is_several());
}

#[test]
fn a_mistake_in_defaults_is_told_once_and_where_it_stands() {
    let text = problems(
        "version: 1
defaults:
  jiter: 1s
  pace: quick
streams:
  - {id: a, url: 'https://a.example/'}
  - {id: b, url: 'https://a.example/'}
",
    );
    assert_eq!(
        text,
        "config.yaml:3:3: defaults.jiter: unknown key `jiter`; did you mean `jitter`?\n\
         config.yaml:4:9: defaults.pace: must be one of real_time, fast, not `quick`"
    );
}

#[test]
fn secrets_are_resolved_and_never_shown() {
    let text = "version: 1
streams:
  - {id: a, url_file: url.txt}
  - {id: b, url: 'srt://b.example:${PORT}', srt: {passphrase: '${KEY}', stream_id: literal-id}}
  - {id: c, url: 'https://u:literal-pw@c.example/${KEY}/x?tok=literal-tok', headers: {X-A: literal-h}}
";
    let config = parse(text);
    let srt = |n: usize| config.streams[n].input.srt.clone();
    assert_eq!(srt(0).passphrase.unwrap().expose(), "hidden-in-a-file");
    assert_eq!(srt(1).passphrase.unwrap().expose(), "hidden-passphrase");
    assert_eq!(config.streams[1].input.url.expose(), "srt://b.example:7");
    assert!(config.streams[2].input.url.expose().contains("literal-tok"));
    for shown in [print_effective(&config), format!("{config:?}")] {
        for secret in ["hidden", "literal"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("https://***@c.example/***/x?***"), "{shown}");
    }
    // Every value wrong: still nothing told.
    let wrong = text
        .replace("version: 1", "version: 2")
        .replace("stream_id: literal-id", "latency: '${KEY}', mode: '${KEY}'")
        .replace("https://u", "${KEY}://u")
        .replace("X-A: ", "X A: ")
        .replace(
            "id: a",
            "id: '${KEY}!', profile: '${KEY}', rendition: '${KEY}', program: '${KEY}'",
        );
    let told = problems(&wrong);
    assert!(told.lines().count() >= 8, "{told}");
    assert!(
        !told.contains("hidden") && !told.contains("literal"),
        "{told}"
    );
}

#[test]
fn byte_order_marks_and_carriage_returns_do_no_harm() {
    let text = format!("\u{feff}{}", ONE.replace('\n', "\r\n"));
    assert_eq!(parse(&text).streams, parse(ONE).streams);
    assert!(problems(&format!("{text}foo: 1\r\n")).starts_with("config.yaml:4:1: foo: unknown"));
}

#[test]
fn substituted_values_take_the_type_that_is_wanted() {
    let config = parse(&ONE.replace("id: a", "id: a, program: '${PORT}'"));
    assert_eq!(config.streams[0].input.program, Some(7));
    assert!(problems(&ONE.replace("id: a", "id: a, program: '7'")).contains("must be a number"));
}

#[test]
fn effective_print_reads_back_equal() {
    let text = "version: 1
http: {listen: off, tokens: [{name: t, token: '***', scope: operate}]}
groups: {g: [DETECTOR]}
shard: {index: 1, count: 3}
receivers: [{name: r, webhook: {url: 'https://r.example'}, min_severity: info}]
defaults: {expect: {video: 1, audio: 0}, visible_after: 2s, page_after: 90s, jitter: 1.5ms}
streams:
  - {id: a, url: 'clips/ü $${x} \"q\".ts', rendition: {bandwidth_bps: 3000000}, labels: {l: 'a: b #'}}
  - {id: b, url: 'udp://@:5000', rendition: {name: 'x y'}, evidence: false, detectors: {DETECTOR: false}}
  - {id: c, url: 'https://a.example/m.m3u8', rendition: [highest, {height: 360}, {name: 'x y'}]}
  - {id: d, url: 'https://a.example/m.m3u8', rendition: ends}
"
    .replace("DETECTOR", REGISTRY[0].name);
    let config = parse(&text);
    let printed = print_effective(&config).replace("https://r.example/***", "https://r.example/");
    let again = parse(&printed);
    assert!(diff(&config, &again).is_empty(), "{printed}");
    assert_eq!(
        (&config.streams, &config.http),
        (&again.streams, &again.http)
    );
    assert_eq!(config.streams[1].detectors.len(), REGISTRY.len() - 1);
}

#[test]
fn detectors_can_be_tuned_and_switched_off() {
    let d = REGISTRY.iter().find(|d| !d.rules.is_empty()).unwrap();
    let (rule, other) = (&d.rules[0], d.rules.len() - 1);
    let tune = |what: &str| {
        parse(&ONE.replace(
            "id: a",
            &format!("id: a, detectors: {{{}: {what}}}", d.name),
        ))
        .streams[0]
            .clone()
    };
    let only = |s: &Stream| {
        s.detectors
            .iter()
            .find(|c| c.descriptor.name == d.name)
            .cloned()
    };
    assert!(only(&tune("false")).is_none());
    assert_eq!(only(&tune("true")), only(&tune("{}")));
    let off = only(&tune(&format!(
        "{{rules: {{{}: {{enabled: false}}}}}}",
        rule.name
    )))
    .unwrap();
    assert_eq!(off.rules.len(), other);
    let set = format!("{{rules: {{{}: {{hold: 9s, severity: info}}}}}}", rule.name);
    let set = only(&tune(&set)).unwrap();
    assert_eq!(
        (set.rules[0].hold, set.rules[0].severity),
        (Duration::from_secs(9), Severity::Info)
    );
    assert_ne!(set, only(&tune("true")).unwrap());
}

#[test]
fn expectations_reach_the_detectors_that_ask() {
    let config = parse(&ONE.replace("id: a", "id: a, expect: {audio: 2}"));
    for d in &config.streams[0].detectors {
        for o in d
            .descriptor
            .options
            .iter()
            .filter(|o| o.name == "expect_audio")
        {
            assert_eq!(d.options.get(o.name), 2.0);
        }
    }
}

#[test]
fn groups_restrict_and_unknown_ones_are_refused() {
    let name = REGISTRY[0].name;
    let config = parse(&format!("{ONE}groups: {{g: [{name}]}}\n"));
    let pick = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        config.select_groups(&names).map(|c| {
            let names = c.streams[0].detectors.iter().map(|d| d.descriptor.name);
            names.collect::<Vec<_>>()
        })
    };
    assert_eq!(pick(&["g"]).unwrap(), [name]);
    assert_eq!(pick(&["g", "all"]).unwrap().len(), REGISTRY.len());
    assert_eq!(
        pick(&["h"]).unwrap_err().to_string(),
        "unknown group `h`; known are g, all"
    );
}

#[test]
fn listening_in_the_open_needs_a_token() {
    let open = "0.0.0.0:9464".parse().unwrap();
    let mut config = parse(ONE);
    assert!(config.listen_on(open).is_err());
    assert!(config.listen_on("[::1]:1".parse().unwrap()).is_ok());
    let mut config = parse(&format!(
        "{ONE}http: {{token: '${{KEY}}', listen: '0.0.0.0:1'}}\n"
    ));
    assert!(config.listen_on(open).is_ok());
    assert_eq!(config.http.listen, Some(open));
}

#[test]
fn tokens_have_names_and_scopes() {
    let with = |tokens: &str| format!("{ONE}http: {{listen: '0.0.0.0:1', tokens: [{tokens}]}}\n");
    let config = parse(&with(
        "{name: wall, token: '${KEY}'}, {name: kim, token: b, scope: operate}",
    ));
    let scopes: Vec<_> = config.http.tokens.iter().map(|t| t.scope).collect();
    assert_eq!(scopes, [Scope::Read, Scope::Operate]);
    assert!(config.http.asks_for_a_token());
    let shown = format!("{:?}{}", config.http, print_effective(&config));
    assert!(
        !shown.contains(config.http.tokens[0].token.expose()),
        "{shown}"
    );
    for (tokens, says) in [
        ("", "a token is required"),
        ("{name: a}", "`token` is missing"),
        ("{token: a}", "`name` is missing"),
        ("{name: a, token: 'b c'}", "plain ASCII"),
        ("{name: a, token: ''}", "must not be empty"),
        (
            "{name: a, token: b, scope: root}",
            "must be one of read, operate, admin",
        ),
        (
            "{name: a, token: b}, {name: a, token: c}",
            "`a` is already there",
        ),
        ("{name: a, token: b}, {name: c, token: b}", "the same token"),
    ] {
        let found = problems(&with(tokens));
        assert!(found.contains(says), "{tokens}: {found}");
    }
}

#[test]
fn reload_tells_what_is_different() {
    let stream =
        |id: &str, more: &str| format!("  - {{id: {id}, url: 'https://a.example/'{more}}}\n");
    let file = |streams: &[String]| parse(&format!("version: 1\nstreams:\n{}", streams.concat()));
    let old = file(&[stream("a", ""), stream("b", ""), stream("c", "")]);
    let new = file(&[
        stream("d", ""),
        stream("c", ", jitter: 1s"),
        stream("b", ", jitter: 200ms"),
    ]);
    let changes = diff(&old, &new);
    let ids = |streams: &[std::sync::Arc<Stream>]| {
        streams.iter().map(|s| s.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&changes.added), ["d"]);
    assert_eq!(ids(&changes.changed), ["c"]);
    assert_eq!(
        changes
            .removed
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>(),
        ["a"]
    );
    assert!(!changes.http && !changes.receivers && !changes.assignment && !changes.instance);
    assert!(diff(&new, &new).is_empty());
}

fn one(
    input: &str,
    sets: &[(&str, &str)],
    file: Option<&str>,
) -> Result<std::sync::Arc<Stream>, Problems> {
    let sets: Vec<_> = sets
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let env = env();
    let document = file.map(|text| Document::parse(text, &env.file, &env.vars).ok().unwrap());
    one_stream_of(document, input, &sets, &env)
}

#[test]
fn one_shot_streams_take_sets_over_the_file() {
    let stream = one("/c/My Clip.ts", &[], None).unwrap();
    assert_eq!((&*stream.id, stream.input.pace), ("my-clip", Pace::Fast));
    assert!(
        one("http://127.0.0.1/x.m3u8", &[], None)
            .unwrap()
            .input
            .allow_private
    );
    assert_eq!(
        &*one("https://cdn.example/a/b.m3u8?t=1", &[], None)
            .unwrap()
            .id,
        "b"
    );
    assert_eq!(
        &*one("udp://239.1.1.1:5000", &[], None).unwrap().id,
        "239-1-1-1-5000"
    );
    let file = format!(
        "{ONE}defaults: {{jitter: 1s, pace: real_time}}\nprofiles: {{p: {{jitter: 2s}}}}\n"
    );
    let sets = [
        ("profile", "p"),
        ("srt.latency", "3s"),
        ("srt.mode", "listener"),
    ];
    let stream = one("/x.ts", &sets, Some(&file)).unwrap();
    assert_eq!(stream.input.jitter, Duration::from_secs(2));
    assert_eq!(stream.input.srt.latency, Duration::from_secs(3));
    assert_eq!(stream.input.srt.mode, SrtMode::Listener);
    assert_eq!(stream.input.pace, Pace::RealTime);
}

#[test]
fn one_shot_mistakes_name_the_argument() {
    let told = one(
        "rtmp://a.example/",
        &[("jiter", "1s"), ("program", "x")],
        None,
    )
    .unwrap_err();
    assert_eq!(
        told.to_string(),
        "--set jiter: unknown key `jiter`; did you mean `jitter`?\n\
         --set program: must be a number, not `x`\n\
         INPUT: the application or the stream is missing; write `rtmp://host/application/stream`"
    );
    let told = |sets: &[(&str, &str)]| one("/x.ts", sets, None).unwrap_err().to_string();
    assert_eq!(
        told(&[("srt", "{latency: [1], mode: '${NO}'}")]),
        "--set srt.mode: the environment variable NO is not set; `$${` writes a plain `${`\n\
         --set srt.latency: must be a duration, not a list"
    );
    assert!(told(&[("a..b", "1"), ("", "2")]).contains("--set a..b: unknown key `a`"));
}

#[test]
fn load_reads_secrets_beside_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("pass", "from-the-file\n");
    write(
        "c.yaml",
        &ONE.replace("id: a", "id: a, srt: {passphrase_file: pass}"),
    );
    let config = load(&dir.path().join("c.yaml")).unwrap();
    let passphrase = config.streams[0].input.srt.passphrase.clone().unwrap();
    assert_eq!(passphrase.expose(), "from-the-file");
    assert!(matches!(
        load(Path::new("/none.yaml")),
        Err(LoadError::Read { .. })
    ));
    assert!(matches!(load(dir.path()), Err(LoadError::Read { .. })));
    let clip = one_stream("clip.ts", &[], Some(&dir.path().join("c.yaml"))).unwrap();
    let here = std::path::absolute("clip.ts").unwrap();
    assert_eq!(
        clip.input.url.expose(),
        format!("file://{}", here.display())
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered(text in "[-a-z:{}\\[\\]#'\"&*!|>%@?, \n0-9$]{0,200}") {
        let _ = Config::parse(&text, &env());
        let _ = Config::parse(&format!("version: 1\nstreams:\n  - {text}"), &env());
    }

    #[test]
    fn any_url_is_answered(url in "(srt|udp|rtp|rtmp|rtsp|http|file|)(://|:|)[-a-z:/?#@.=&%\\[\\]0-9 ]{0,60}") {
        let text = serde_json::to_string(&url).unwrap();
        let _ = Config::parse(&format!("version: 1\nstreams:\n  - {{id: a, url: {text}}}"), &env());
    }
}

#[test]
fn what_this_build_cannot_do_is_told_where_it_stands() {
    let text = format!(
        "{ONE}receivers:
  - name: topic
    sns: {{topic_arn: 'arn:aws:sns:eu-central-1:123456789012:alerts.fifo'}}
evidence: {{s3: {{bucket: evidence, region: eu-central-1, prefix: /wall/left/}}}}
"
    );
    let told = problems(&text);
    assert!(
        told.contains("receivers[0].sns: this build has no `aws`"),
        "{told}"
    );
    assert!(
        told.contains("evidence.s3: this build has no `aws`"),
        "{told}"
    );
    let env = Env { aws: true, ..env() };
    let config = Config::parse(&text, &env).unwrap();
    let ReceiverKind::Sns {
        region, endpoint, ..
    } = &config.receivers[0].kind
    else {
        unreachable!("{config:?}")
    };
    assert_eq!((region.as_str(), endpoint), ("eu-central-1", &None));
    assert_eq!(
        config.evidence.s3.as_ref().unwrap().prefix,
        "wall/left",
        "{config:?}"
    );
    let printed = Config::parse(&print_effective(&config), &env).unwrap();
    assert!(diff(&config, &printed).is_empty());
}
