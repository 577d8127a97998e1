//! Incidents, acknowledging, mutes.

use super::*;

#[tokio::test]
async fn incidents_are_listed_taken_on_and_muted() {
    let source = fake(None);
    let server = serve(&source, None).await;
    let raise = Transition {
        change: Change::Raise,
        at: defect("srt1").start,
        defect: defect("srt1"),
    };
    source.desk().hear(&raise, jiff::Timestamp::now());
    let get = async |path: &str| {
        let answer = ask(&server, "GET", path, "").await;
        let json: Json = serde_json::from_str(&answer.body).unwrap_or_default();
        (answer.status, json)
    };
    let send = async |method: &str, path: &str, body: &str| {
        let length = body.len();
        let kind = "content-type: application/json\r\ncontent-length";
        let head = format!("{kind}: {length}\r\n\r\n{body}");
        let answer = ask(&server, method, path, &head).await;
        let json: Json = serde_json::from_str(&answer.body).unwrap_or_default();
        (answer.status, json)
    };
    let (status, all) = get("/api/v1/incidents?open=true").await;
    assert_eq!((status, all["open"].as_array().unwrap().len()), (200, 1));
    let id = all["open"][0]["incident_id"].as_str().unwrap().to_owned();
    assert_eq!(
        get("/api/v1/incidents?stream=hls1").await.1["open"],
        Json::Array(vec![])
    );
    assert_eq!(
        get(&format!("/api/v1/incidents/{id}")).await.1["stream"],
        "srt1"
    );
    assert_eq!(get("/api/v1/incidents/none").await.0, 404);
    let path = format!("/api/v1/incidents/{id}/acknowledge");
    assert_eq!(send("POST", &path, "{\"by\": \" \"}").await.0, 400);
    assert_eq!(send("POST", &path, "{\"by\": \"kim\"}").await.0, 200);
    let (_, one) = get(&format!("/api/v1/incidents/{id}")).await;
    assert_eq!(one["acknowledged_by"], "kim");

    let mute = |more: &str| {
        format!(
            "{{\"matchers\": {{\"stream\": \"srt*\"}}, \"author\": \"kim\", \"reason\": \"works\"{more}}}"
        )
    };
    let mutes = "/api/v1/mutes";
    assert_eq!(
        send("POST", mutes, &mute("")).await.0,
        400,
        "without an end"
    );
    assert_eq!(
        send("POST", mutes, &mute(", \"for_secs\": 999999")).await.0,
        422
    );
    let (status, preview) = send(
        "POST",
        mutes,
        &mute(", \"for_secs\": 60, \"preview\": true"),
    )
    .await;
    assert_eq!((status, &preview["streams"][0]), (200, &Json::from("srt1")));
    assert_eq!(get(mutes).await.1["mutes"], Json::Array(vec![]));
    let (status, set) = send("POST", mutes, &mute(", \"for_secs\": 60")).await;
    assert_eq!(status, 201);
    let (_, one) = get(&format!("/api/v1/incidents/{id}")).await;
    assert_eq!(one["quiet"], "muted");
    let everything = mute(", \"for_secs\": 60").replace("srt*", "*");
    assert_eq!(send("POST", mutes, &everything).await.0, 409);
    let path = format!("{mutes}/{}", set["mute"]["id"].as_str().unwrap());
    assert_eq!(send("DELETE", &path, "").await.0, 204);
    assert_eq!(send("DELETE", &path, "").await.0, 404);
    // A page of another site can send text, not JSON.
    let head = format!(
        "content-type: text/plain\r\ncontent-length: {}\r\n\r\n{everything}",
        everything.len()
    );
    assert_eq!(ask(&server, "POST", mutes, &head).await.status, 400);
}

#[tokio::test]
async fn the_canary_is_listed_when_asked_for() {
    let source = fake(None);
    let server = serve(&source, None).await;
    let defect = Defect {
        stream: "_canary".into(),
        ..defect("canary")
    };
    let raise = Transition {
        change: Change::Raise,
        at: defect.start,
        defect,
    };
    let mut listener = source.desk().listen();
    source.desk().hear(&raise, jiff::Timestamp::now());
    assert!(listener.try_recv().is_err(), "nor told to who listens");
    let all = json(&server, "/api/v1/incidents").await;
    assert_eq!(all["open"], Json::Array(vec![]));
    let own = json(&server, "/api/v1/incidents?stream=_canary").await;
    assert_eq!(own["open"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_people_say_of_an_alert_is_kept_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let source = fake(Some(dir.path().to_owned()));
    let server = serve(&source, None).await;
    let raise = Transition {
        change: Change::Raise,
        at: defect("srt1").start,
        defect: defect("srt1"),
    };
    source.desk().hear(&raise, jiff::Timestamp::now());
    let open = source.desk().incidents(jiff::Timestamp::now());
    let id = &open[0].incident_id;
    let say = async |id: &str, body: &str| {
        let length = body.len();
        let head =
            format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        let path = format!("/api/v1/incidents/{id}/feedback");
        ask(&server, "POST", &path, &head).await.status
    };
    let wrong = r#"{"by": "kim", "verdict": "false_alarm", "note": "a title card"}"#;
    assert_eq!(say(id, wrong).await, 201);
    assert_eq!(say("none", wrong).await, 404);
    assert_eq!(say(id, r#"{"by": "kim", "verdict": "perhaps"}"#).await, 400);
    assert_eq!(say(id, r#"{"by": " ", "verdict": "right"}"#).await, 400);
    let entries = source.desk().feedback(9).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["verdict"], "false_alarm");
    assert_eq!(entries[0]["incident"]["incident_id"], **id);
    let answer = ask(&server, "GET", "/api/v1/feedback?limit=5", "").await;
    let json: Json = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["entries"][0]["note"], "a title card");
}
