//! What Amazon's services have in common: whose credentials sign, over which HTTP client, and what an error means.
//!
//! Credentials come from the standard chain alone (environment, profile, web identity, container, instance), never from
//! the configuration. Requests go through the client that the caller gives, which keeps to its address policy; those for
//! credentials go through one of our own, because the services that hand them out have link-local addresses. The kit
//! itself never tries again: whoever calls counts attempts.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use reqwest::{Client, NoProxy, Proxy};
use url::Url;

/// How much of an answer is read. The longest that is waited for is a page of DynamoDB: 1 MB before it became base64 and
/// JSON, or a batch of 90 items without their values.
const ANSWER_BYTES: usize = 8 << 20;
/// How long a service that hands out credentials may take, unless the kit says less.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where credentials are handed out without a proxy: this machine, containers, instances.
const NEAR: &str = "127.0.0.0/8,169.254.0.0/16,localhost,::1,fd00:ec2::/32";
/// What is missing when there is nothing to sign with.
const CREDENTIALS: &str = "credentials";
/// Longest wait that a service may ask for.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(3600);

/// The behaviour of the kit that this was written for.
pub fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// The standard chain of credentials, evaluated anew. `proxy`: for what is not near.
///
/// # Errors
/// No HTTP client can be built.
pub async fn credentials(
    region: &str,
    proxy: Option<&Url>,
) -> Result<DefaultCredentialsChain, reqwest::Error> {
    let mut client = Client::builder()
        .user_agent(concat!("glasswatch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CREDENTIALS_TIMEOUT);
    if let Some(proxy) = proxy {
        let far = Proxy::all(proxy.clone())?.no_proxy(NoProxy::from_string(NEAR));
        client = client.proxy(far);
    }
    let region = Region::new(region.to_owned());
    let config = ProviderConfig::without_region()
        .with_behavior_version(Some(behavior()))
        .with_region(Some(region.clone()))
        .with_http_client(Connector {
            client: client.build()?,
            timeout: None,
            errand: Errand::Credentials,
        })
        .with_retry_config(RetryConfig::disabled());
    let chain = DefaultCredentialsChain::builder().configure(config);
    // Else it asks the instance where it is.
    Ok(chain.region(region).build().await)
}

/// Carries the kit's requests over one of our clients.
#[derive(Clone)]
pub struct Connector {
    client: Client,
    /// What the kit allows; the client has a deadline of its own.
    timeout: Option<Duration>,
    errand: Errand,
}

/// What requests are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Service,
    Credentials,
}

impl Connector {
    /// For requests to a service, over this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            timeout: None,
            errand: Errand::Service,
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client shows its proxy.
        f.write_str("Connector")
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Self {
            client: self.client.clone(),
            timeout: settings.read_timeout(),
            errand: self.errand,
        })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, timeout, errand) = (self.client.clone(), self.timeout, self.errand);
        HttpConnectorFuture::new(async move {
            ask(&client, timeout, request).await.map_err(|why| {
                let why = match errand {
                    Errand::Service => why,
                    Errand::Credentials => Unanswered::unsent(CREDENTIALS),
                };
                match why.what {
                    "timeout" => ConnectorError::timeout(why.into()),
                    _ => ConnectorError::io(why.into()),
                }
            })
        })
    }
}

async fn ask(
    client: &Client,
    timeout: Option<Duration>,
    request: HttpRequest,
) -> Result<HttpResponse, Unanswered> {
    let unusable = Unanswered::unsent("request");
    let request = request.try_into_http1x().map_err(|_| unusable)?;
    let request = request.map(reqwest::Body::wrap);
    let mut request = reqwest::Request::try_from(request).map_err(|_| unusable)?;
    *request.timeout_mut() = timeout;
    // Not signed: the client says who we are.
    request.headers_mut().remove(reqwest::header::USER_AGENT);
    let told = |error: reqwest::Error| Unanswered::of(&error);
    let mut answer = client.execute(request).await.map_err(told)?;
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES {
        match answer.chunk().await.map_err(told)? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    let mut whole = http::Response::new(SdkBody::from(bytes));
    *whole.status_mut() = answer.status();
    std::mem::swap(whole.headers_mut(), answer.headers_mut());
    HttpResponse::try_from(whole).map_err(|_| Unanswered::network())
}

/// Why there is no answer. Never with the error's own text: it holds the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Unanswered {
    /// In a word: `timeout`, `connect`, `network`, `credentials: none found`.
    pub what: &'static str,
    /// Whether the request may have arrived.
    pub maybe_sent: bool,
}

impl Unanswered {
    fn of(error: &reqwest::Error) -> Self {
        match error {
            error if error.is_connect() && error.is_timeout() => Self::unsent("timeout"),
            error if error.is_connect() => Self::unsent("connect"),
            error if error.is_timeout() => Self {
                what: "timeout",
                maybe_sent: true,
            },
            _ => Self::network(),
        }
    }

    fn network() -> Self {
        Self {
            what: "network",
            maybe_sent: true,
        }
    }

    fn unsent(what: &'static str) -> Self {
        Self {
            what,
            maybe_sent: false,
        }
    }
}

/// What became of a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered.
    Unanswered(Unanswered),
    /// The service, or somebody before it, did.
    Answered {
        /// Status code of HTTP.
        status: u16,
        /// The service's own word, if it was its answer: `AuthorizationError`.
        code: Option<String>,
        /// From `Retry-After`, at most an hour.
        after: Option<Duration>,
    },
}

impl Failure {
    /// Reads an error of the kit.
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(raw) = error.raw_response() else {
            return Self::Unanswered(unanswered(error));
        };
        let after = raw.headers().get("retry-after");
        let after = after.and_then(|secs| secs.trim().parse().ok());
        let code = error.as_service_error().and_then(|e| e.code());
        Self::Answered {
            status: raw.status().as_u16(),
            // What stands in the way may answer anything.
            code: code.filter(|code| is_word(code)).map(str::to_owned),
            after: after.map(|secs| Duration::from_secs(secs).min(RETRY_AFTER_LIMIT)),
        }
    }

    /// Whether the credentials in use may be the reason; the chain, which reads files once, is then to be built anew.
    pub fn is_about_credentials(&self) -> bool {
        let refused = |status: u16| matches!(status, 401 | 403);
        self.asks_for_fresh_credentials()
            || matches!(self, Self::Answered { status, .. } if refused(*status))
    }

    /// Whether other credentials may help that the chain can give by itself: these are over, or there were none.
    pub fn asks_for_fresh_credentials(&self) -> bool {
        match self {
            Self::Unanswered(why) => why.what.starts_with(CREDENTIALS),
            Self::Answered { code, .. } => (code.as_deref())
                .is_some_and(|code| ["ExpiredToken", "ExpiredTokenException"].contains(&code)),
        }
    }

    /// Whether the service asks for patience, whatever its status.
    pub fn is_throttled(&self) -> bool {
        let Self::Answered { code, .. } = self else {
            return false;
        };
        (code.as_deref()).is_some_and(|code| {
            code.starts_with("Throttl")
                || [
                    "KMSThrottling",
                    "KMSThrottlingException",
                    "RequestLimitExceeded",
                    "RequestThrottled",
                    "SlowDown",
                    "TooManyRequestsException",
                ]
                .contains(&code)
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(why) => write!(f, "{why}"),
            Self::Answered { status, code, .. } => match code {
                Some(code) => write!(f, "status {status} {code}"),
                None => write!(f, "status {status}"),
            },
        }
    }
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

/// What our connector said, or why there was nothing to sign with. Not the error's own text: the output of a program
/// that hands out credentials may be in it.
fn unanswered(error: &(dyn Error + 'static)) -> Unanswered {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(why) = error.downcast_ref::<Unanswered>() {
            return *why;
        }
        if let Some(why) = error.downcast_ref::<CredentialsError>() {
            return Unanswered::unsent(match why {
                CredentialsError::CredentialsNotLoaded(_) => "credentials: none found",
                CredentialsError::ProviderTimedOut(_) => "credentials: timeout",
                CredentialsError::InvalidConfiguration(_) => "credentials: invalid configuration",
                _ => "credentials: their service failed",
            });
        }
        cause = error.source();
    }
    Unanswered::unsent(CREDENTIALS)
}
