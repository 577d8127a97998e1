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
