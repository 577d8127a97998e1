//! One member of etcd: how it is called, and what its errors mean.

use std::error::Error as _;
use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, TlsOptions};
use tokio::sync::Mutex;
use url::Url;

use super::Settings;
use crate::router::store::{Result, StoreError};

/// How often a silent connection is tried, and how long that may take. Members refuse more than one try in 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Where a member is, and the connection to it once there was something to ask.
pub(super) struct Member {
    url: String,
    /// Host and port.
    shown: String,
    options: ConnectOptions,
    client: Mutex<Option<Client>>,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Member {
    /// All members of a cluster.
    pub(super) fn all(settings: &Settings) -> Result<Vec<Self>> {
        let ca = settings.ca_file.as_ref().map(|path| {
            fs::read(path).map_err(|why| StoreError::Refused(format!("{}: {why}", path.display())))
        });
        let ca = ca.transpose()?.map(Certificate::from_pem);
        let member = |(n, endpoint): (usize, &String)| {
            let wrong = || StoreError::Refused(format!("endpoint {} is no http(s) URL", n + 1));
            let url = Url::parse(endpoint).map_err(|_| wrong())?;
            let host = url.host_str().ok_or_else(wrong)?;
            // A user belongs into the settings made for it, where it is kept secret.
            let is_plain = url.username().is_empty() && url.password().is_none();
            if !["http", "https"].contains(&url.scheme()) || !is_plain {
                return Err(wrong());
            }
            let port = url.port_or_known_default().unwrap_or(2379);
            let mut options = ConnectOptions::new()
                .with_connect_timeout(settings.timeout)
                .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
                .with_keep_alive_while_idle(false)
                .with_require_leader(true);
            if url.scheme() == "https" {
                let tls = match &ca {
                    Some(ca) => TlsOptions::new().ca_certificate(ca.clone()),
                    None => TlsOptions::new().with_native_roots(),
                };
                options = options.with_tls(tls);
            }
            if let Some(user) = &settings.user {
                options = options
                    .with_user(&user.name, user.password.expose())
                    .with_auto_token_refresh(true);
            }
            Ok(Self {
                url: format!("{}://{host}:{port}", url.scheme()),
                shown: format!("{host}:{port}"),
                options,
                client: Mutex::default(),
            })
        };
        let members = settings.endpoints.iter().enumerate().map(member);
        let members: Vec<_> = members.collect::<Result<_>>()?;
        match members.is_empty() {
            true => Err(StoreError::Refused("no endpoints".to_owned())),
            false => Ok(members),
        }
    }

    /// Puts a question to this member.
    pub(super) async fn ask<T, F>(
        &self,
        question: &impl Fn(Client) -> F,
    ) -> std::result::Result<T, Trouble>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let client = self.client().await.map_err(|why| Trouble {
            // Nothing was asked yet.
            maybe_sent: false,
            ..Trouble::of(&self.shown, &why)
        })?;
        question(client)
            .await
            .map_err(|why| Trouble::of(&self.shown, &why))
    }

    async fn client(&self) -> std::result::Result<Client, Error> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        // Our own TLS needs one as well; whoever is first installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let new = Client::connect([&self.url], Some(self.options.clone())).await?;
        Ok(client.insert(new).clone())
    }
}

/// Codes of gRPC.
mod code {
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const OUT_OF_RANGE: i32 = 11;
    pub const UNAUTHENTICATED: i32 = 16;
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    /// For the caller. Without a key where one is to be named: the member knows none.
    pub error: StoreError,
    /// Whether another member may do better.
    pub is_members_own: bool,
    /// Whether it may have arrived.
    pub maybe_sent: bool,
}

impl Trouble {
    /// Nobody knows.
    pub(super) fn unclear(what: String) -> Self {
        Self {
            error: StoreError::Unreachable(what),
            is_members_own: true,
            maybe_sent: true,
        }
    }

    /// Reads an error of the client.
    pub(super) fn of(member: &str, error: &Error) -> Self {
        let status = match error {
            Error::GRpcStatus(status) => status,
            // What it says when a lease has no time left.
            Error::LeaseKeepAliveError(_) => return Self::sure(StoreError::Lost(String::new())),
            Error::TransportError(_) | Error::IoError(_) => {
                return Self::unclear(format!("{member}: connection"));
            }
            Error::InvalidArgs(_) | Error::InvalidUri(_) => {
                return Self::sure(StoreError::Refused(format!("{member}: unusable endpoint")));
            }
            _ => return Self::unclear(format!("{member}: an odd answer")),
        };
        // Its own words only: what stands between us may say anything.
        let said = status.message();
        let said = match ["etcdserver: ", "auth: ", "mvcc: ", "lease: "]
            .iter()
            .any(|by| said.starts_with(by))
        {
            true => said,
            false => "",
        };
        let code = status.code() as i32;
        let told = match said {
            "" => format!("{member}: gRPC status {code}"),
            _ => format!("{member}: {said}"),
        };
        match code {
            code::NOT_FOUND if said.contains("lease") => {
                Self::sure(StoreError::Lost(String::new()))
            }
            code::OUT_OF_RANGE if said.contains("compacted") => {
                Self::sure(StoreError::Conflict(String::new()))
            }
            code::INVALID_ARGUMENT if said.contains("request is too large") => {
                Self::sure(StoreError::Invalid(told))
            }
            code::RESOURCE_EXHAUSTED if said.contains("too many requests") => Self::unclear(told),
            code::INVALID_ARGUMENT
            | code::PERMISSION_DENIED
            | code::RESOURCE_EXHAUSTED
            | code::FAILED_PRECONDITION
            | code::UNAUTHENTICATED
                if !said.is_empty() =>
            {
                Self::sure(StoreError::Refused(told))
            }
            _ => Self {
                maybe_sent: !is_unconnected(status.source()),
                ..Self::unclear(told)
            },
        }
    }

    /// The cluster has decided.
    fn sure(error: StoreError) -> Self {
        Self {
            error,
            is_members_own: false,
            maybe_sent: true,
        }
    }
}

/// Whether there was no connection to send anything over.
fn is_unconnected(mut cause: Option<&(dyn std::error::Error + 'static)>) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable) =
            kind
        {
            return true;
        }
        cause = error.source();
    }
    false
}
