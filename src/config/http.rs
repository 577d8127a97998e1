//! `http:`: where the API listens, and who may do what there.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

use super::check::{Checker, Section, socket};
use super::checked::Secret;
use super::raw::{Data, Node};
use super::schema;

/// HTTP server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Http {
    /// Listening address; `None` = no server.
    pub listen: Option<SocketAddr>,
    /// Bearer token that may do everything. This or one of `tokens` is required when `listen` is not loopback.
    pub token: Option<Secret>,
    /// Bearer tokens with names and scopes.
    pub tokens: Vec<ApiToken>,
    /// Where people reach the page; `None`: alerts carry no links.
    pub public_url: Option<Url>,
    /// How long a link to evidence works.
    pub link_life: Duration,
}

impl Http {
    /// Whether a client has to send a token.
    pub fn asks_for_a_token(&self) -> bool {
        self.token.is_some() || !self.tokens.is_empty()
    }
}

/// A bearer token of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiToken {
    /// Unique; what the audit log calls its holder.
    pub name: String,
    /// What is sent.
    pub token: Secret,
    /// What it may do.
    pub scope: Scope,
}

/// What a token may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See everything.
    Read,
    /// Acknowledge and mute.
    Operate,
    /// Everything: add and remove streams.
    Admin,
}

impl Scope {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Operate => "operate",
            Scope::Admin => "admin",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "admin" => Scope::Admin,
            "operate" => Scope::Operate,
            _ => Scope::Read,
        }
    }
}

impl Checker<'_> {
    pub(super) fn http(&mut self, node: &Node) -> Http {
        let s = self.open(node, &[schema::HTTP]);
        let token = self
            .secret(s, "token")
            .map(|(text, at, _)| self.token(&text.value, at));
        let mut tokens: Vec<ApiToken> = Vec::new();
        for node in self.items(s, "tokens") {
            let Some(token) = self.api_token(node) else {
                continue;
            };
            if tokens.iter().any(|t| t.name == token.name) {
                let message = format!("a token `{}` is already there", token.name);
                self.wrong(node, message, None);
            }
            let same = |t: &Secret| t.expose() == token.token.expose();
            if tokens.iter().any(|t| same(&t.token)) {
                self.wrong(node, "the same token is already there", None);
            }
            tokens.push(token);
        }
        let given = s.node.get("listen");
        let listen = match given {
            Some(Node {
                data: Data::Bool(false),
                ..
            }) => None,
            _ => self.text(s, "listen").filter(|word| word != "off"),
        };
        let listen = listen.and_then(|word| match (socket(&word), given) {
            (Some(listen), _) => Some(listen),
            (None, Some(node)) => {
                let message = format!("must be an address and port, not `{}`", self.word(node));
                self.wrong(node, message, "write `127.0.0.1:9464` or `off`".to_owned());
                None
            }
            (None, None) => None,
        });
        let wants_token = s.node.get("token").or(s.node.get("token_file")).is_some();
        let wants_token = wants_token || !self.items(s, "tokens").is_empty();
        if let (Some(listen), Some(node), false) = (listen, given, wants_token)
            && !listen.ip().is_loopback()
        {
            self.wrong(
                node,
                format!("{listen} is not loopback, so a token is required"),
                "set `http.token_file` or `http.token`".to_owned(),
            );
        }
        Http {
            listen,
            token,
            tokens,
            public_url: self.public_url(s),
            link_life: Duration::from_secs(self.whole(s, "link_hours").unwrap_or_default() * 3600),
        }
    }

    fn public_url(&mut self, s: Section<'_>) -> Option<Url> {
        let text = self.text(s, "public_url")?;
        let url = Url::parse(&text).ok();
        let url = url.filter(|url| {
            let plain = url.username().is_empty() && url.password().is_none();
            let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            ["http", "https"].contains(&url.scheme()) && url.has_host() && plain && bare
        });
        if url.is_none() {
            let hint = "write `https://monitor-1.example.com:9464`".to_owned();
            let message = "must be http or https, a host, and perhaps a port";
            self.wrong(s.node.get("public_url")?, message, hint);
        }
        url
    }

    fn api_token(&mut self, node: &Node) -> Option<ApiToken> {
        let s = self.open(node, &[schema::API_TOKEN]);
        let name = self.text(s, "name");
        if s.node.get("name").is_none() {
            self.missing(node, "name", None);
        }
        if s.node.get("token").or(s.node.get("token_file")).is_none() {
            self.missing(node, "token", None);
        }
        let scope = Scope::parse(self.choice(s, "scope"));
        let (text, at, _) = self.secret(s, "token")?;
        Some(ApiToken {
            name: name?,
            token: self.token(&text.value, at),
            scope,
        })
    }

    fn token(&mut self, text: &str, at: &Node) -> Secret {
        let token = text.trim();
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            self.wrong(at, "a token is plain ASCII without blanks", None);
        }
        Secret::new(token)
    }
}
