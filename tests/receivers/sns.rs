//! What SNS answers, word by word. The rest is tested against an emulator: `tests/aws`.

use aws_sdk_sns::config::Credentials;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;
use glasswatch::notify::receiver::sns::{Options, Sns};
use glasswatch::notify::receiver::{Outcome, ReceiverError, Sent};

use super::*;

fn options(endpoint: Option<String>) -> Options {
    Options {
        topic_arn: "arn:aws:sns:eu-central-1:123456789012:alerts.fifo".into(),
        region: "eu-central-1".into(),
        endpoint: endpoint.map(Secret::new),
        http: http(),
    }
}

/// What becomes of a message when this is the answer.
async fn answered(status: u16, code: &str) -> Outcome {
    let status = StatusCode::from_u16(status).unwrap();
    let answer = format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{SECRET}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    );
    let app = Router::new().fallback(move |form: String| async move {
        for field in [
            "Action=Publish",
            "MessageGroupId=0123abcd",
            "MessageDeduplicationId=id-1",
        ] {
            assert!(form.split('&').any(|f| f == field), "{form}");
        }
        (status, [(RETRY_AFTER, "7")], answer).into_response()
    });
    let base = format!("http://{}", serve(app).await);
    let credentials = Credentials::new("AKIA", SECRET, None, None, "test");
    let receiver = Sns::new(&options(Some(base)))
        .unwrap()
        .signing_with(credentials);
    let body = rendered(&receiver, &message(json!({})));
    receiver.send("id-1", &body, Clock::at_noon().now()).await
}

#[tokio::test]
async fn patience_is_given_to_who_asks_for_it_and_refusals_are_final() {
    for (status, code, what) in [
        (400, "Throttling", "status 400 Throttling"),
        (429, "ThrottledException", "status 429 ThrottledException"),
        (403, "ExpiredToken", "status 403 ExpiredToken"),
    ] {
        let expected = Outcome::Retry {
            after: Some(Duration::from_secs(7)),
            what: what.to_owned(),
            sent: Sent::No,
        };
        assert_eq!(answered(status, code).await, expected);
    }
    let broken = answered(500, "InternalError").await;
    let maybe = matches!(
        &broken,
        Outcome::Retry {
            sent: Sent::Maybe,
            ..
        }
    );
    assert!(maybe, "{broken:?}");
    for (status, code) in [
        (403, "AuthorizationError"),
        (403, "InvalidClientTokenId"),
        (403, "SignatureDoesNotMatch"),
        (404, "NotFound"),
        (400, "InvalidParameter"),
        (400, "EndpointDisabled"),
    ] {
        assert_eq!(answered(status, code).await, Outcome::Dead { status });
    }
}

#[test]
fn what_is_no_topic_is_refused_and_a_topic_is_named_by_its_region() {
    let topic = Sns::new(&options(None)).unwrap();
    assert_eq!(topic.place(), "sns eu-central-1");
    let none = Options {
        topic_arn: "alerts".into(),
        ..options(None)
    };
    assert_eq!(Sns::new(&none).err(), Some(ReceiverError::Topic));
}
