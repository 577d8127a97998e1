//! The emulator: moto, in a process of its own on a free port, which ends with the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::rig::DEADLINE;
use crate::said;

pub const REGION: &str = "eu-central-1";

/// Where `deploy/setup.sh` puts it.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = target.join("moto/bin/moto_server");
    assert!(
        program.exists(),
        "{} is missing: the emulator that these tests talk to is not installed. `./test` installs it; \
         by hand: python3 -m venv {target}/moto && {target}/moto/bin/pip install -r tests/aws/requirements.txt",
        program.display(),
        target = target.display(),
    );
    program
}

/// A running emulator. Killed when dropped; what it knew is gone then.
pub struct Moto {
    child: Child,
    pub address: SocketAddr,
}

impl Moto {
    pub fn start() -> Self {
        let mut child = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = said::address(&mut child);
        Self { child, address }
    }

    /// One request; status and body of the answer.
    pub fn ask(
        &self,
        service: &str,
        head: &str,
        more: &str,
        body: &[u8],
    ) -> (u16, String, Vec<u8>) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{more}\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n",
            self.address,
            body.len(),
        );
        socket.write_all(request.as_bytes()).unwrap();
        socket.write_all(body).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let headers = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        (status, headers, answer[end + 4..].to_vec())
    }

    fn sns(&self, form: &[(&str, &str)], wanted: &str) -> String {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let kind = "content-type: application/x-www-form-urlencoded\r\n";
        let (status, _, answer) = self.ask("sns", "POST /", kind, form.as_bytes());
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(status, 200, "{answer}");
        let (_, rest) = answer.split_once(&format!("<{wanted}>")).unwrap();
        rest.split('<').next().unwrap().to_owned()
    }

    fn sqs(&self, action: &str, asked: &Json) -> Json {
        let more = format!(
            "content-type: application/x-amz-json-1.0\r\nx-amz-target: AmazonSQS.{action}\r\n"
        );
        let (status, _, answer) = self.ask("sqs", "POST /", &more, asked.to_string().as_bytes());
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// Makes a topic; its ARN. A name that ends in `.fifo` makes a FIFO topic.
    pub fn topic(&self, name: &str) -> String {
        let fifo = name.ends_with(".fifo").to_string();
        let form = [
            ("Action", "CreateTopic"),
            ("Name", name),
            ("Attributes.entry.1.key", "FifoTopic"),
            ("Attributes.entry.1.value", &fifo),
        ];
        let asked = if name.ends_with(".fifo") { 4 } else { 2 };
        self.sns(&form[..asked], "TopicArn")
    }

    /// Makes a queue that gets what a topic gets: whole envelopes, or with `raw` the messages alone; its URL.
    pub fn queue(&self, name: &str, topic: &str, attributes: &[(&str, &str)]) -> String {
        let kind = match name.ends_with(".fifo") {
            true => json!({ "FifoQueue": "true" }),
            false => json!({}),
        };
        let made = self.sqs(
            "CreateQueue",
            &json!({ "QueueName": name, "Attributes": kind }),
        );
        let url = made["QueueUrl"].as_str().unwrap().to_owned();
        let arn = topic.rsplit_once(':').unwrap().0.replace(":sns:", ":sqs:");
        let arn = format!("{arn}:{name}");
        let mut form = vec![
            ("Action".to_owned(), "Subscribe".to_owned()),
            ("TopicArn".to_owned(), topic.to_owned()),
            ("Protocol".to_owned(), "sqs".to_owned()),
            ("Endpoint".to_owned(), arn),
        ];
        for (n, (key, value)) in attributes.iter().enumerate() {
            let n = n + 1;
            form.push((format!("Attributes.entry.{n}.key"), (*key).to_owned()));
            form.push((format!("Attributes.entry.{n}.value"), (*value).to_owned()));
        }
        let form: Vec<_> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        self.sns(&form, "SubscriptionArn");
        url
    }

    /// Takes what lies in a queue.
    pub fn take(&self, queue: &str) -> Vec<Json> {
        let mut taken = Vec::new();
        loop {
            let asked = json!({
                "QueueUrl": queue,
                "MaxNumberOfMessages": 10,
                "AttributeNames": ["All"],
                "MessageAttributeNames": ["All"],
            });
            let answer = self.sqs("ReceiveMessage", &asked);
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return taken;
            }
            for message in messages {
                let done = json!({ "QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"] });
                self.sqs("DeleteMessage", &done);
                taken.push(message);
            }
        }
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        let place = format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        );
        let (status, ..) = self.ask("s3", &format!("PUT /{name}"), "", place.as_bytes());
        assert_eq!(status, 200);
    }

    /// Keys in a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let (status, _, answer) = self.ask("s3", &format!("GET /{bucket}?list-type=2"), "", b"");
        assert_eq!(status, 200);
        let answer = String::from_utf8(answer).unwrap();
        let keys = answer.split("<Key>").skip(1);
        keys.map(|rest| rest.split('<').next().unwrap().to_owned())
            .collect()
    }

    /// Media type and bytes of an object.
    pub fn object(&self, bucket: &str, key: &str) -> (String, Vec<u8>) {
        let (status, headers, bytes) = self.ask("s3", &format!("GET /{bucket}/{key}"), "", b"");
        assert_eq!(status, 200, "{key}");
        let kind = headers
            .lines()
            .find_map(|l| l.strip_prefix("content-type: "));
        (kind.unwrap_or_default().to_owned(), bytes)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One address for emulators that come and go: connections go through to the present one, or are closed.
pub struct Gate {
    pub address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
}

impl Gate {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let to = Arc::new(Mutex::new(None));
        let present = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let to: Option<SocketAddr> = *present.lock().unwrap();
                let Some(server) = to.and_then(|to| TcpStream::connect(to).ok()) else {
                    continue;
                };
                for (mut from, mut into) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server, client),
                ] {
                    std::thread::spawn(move || {
                        // Either side may leave.
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { address, to }
    }

    pub fn lead_to(&self, moto: Option<&Moto>) {
        *self.to.lock().unwrap() = moto.map(|moto| moto.address);
    }
}

/// Asks again until `check` holds.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        // The other processes' own pace.
        std::thread::sleep(Duration::from_millis(100));
    }
}
