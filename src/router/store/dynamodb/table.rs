//! What is asked of the service, and what its answers and errors mean.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Config, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, KeysAndAttributes, Put, TransactWriteItem,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use tokio::time::{sleep, timeout};
use url::Url;

use super::Settings;
use super::item::{self, Condition, Item, State, blob, number, text};
use crate::aws::{self, Connector, Failure};
use crate::router::store::{Hold, Result, StoreError};

/// The first pause before a question that the service had no time for is put again.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// Partition of the counters; no key has a `#`.
const COUNTERS: &str = "#changes";
/// What says of an item all but its value.
const HEAD: &str = "pk, sk, v, h, l, x";

/// One table.
pub(super) struct Table {
    pub settings: Settings,
    endpoint: Option<Url>,
    http: reqwest::Client,
    /// Instead of the chain's.
    pub credentials: Option<Credentials>,
    /// With the credentials of the chain as it was evaluated last.
    client: tokio::sync::Mutex<Option<Client>>,
}

impl Table {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        let refused = |why: &str| StoreError::Refused(why.to_owned());
        let endpoint = settings.endpoint.as_ref().map(|url| {
            let url = Url::parse(url.expose()).ok();
            url.filter(|url| ["http", "https"].contains(&url.scheme()))
                .ok_or_else(|| refused("the endpoint is no http(s) URL"))
        });
        // Another part may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("glasswatch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout)
            .build()
            .map_err(|_| refused("no HTTP client can be built"))?;
        Ok(Self {
            endpoint: endpoint.transpose()?,
            http,
            settings,
            credentials: None,
            client: tokio::sync::Mutex::default(),
        })
    }

    async fn client(&self) -> Result<Client> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let region = &self.settings.region;
        let signs = match &self.credentials {
            Some(own) => SharedCredentialsProvider::new(own.clone()),
            None => SharedCredentialsProvider::new(
                aws::credentials(region, None)
                    .await
                    .map_err(|_| StoreError::Unreachable("credentials".to_owned()))?,
            ),
        };
        let config = Config::builder()
            .behavior_version(aws::behavior())
            .region(Region::new(region.clone()))
            .credentials_provider(signs)
            .http_client(Connector::new(self.http.clone()))
            // What may be put again, and how long all may take, is decided here.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled());
        let config = match &self.endpoint {
            Some(url) => config.endpoint_url(url.as_str()),
            None => config,
        };
        Ok(client.insert(Client::from_conf(config.build())).clone())
    }

    /// Asks until the service has time for it. `None`: a condition does not hold.
    async fn ask<T, E, F>(&self, question: impl Fn(Client) -> F) -> Result<Option<T>>
    where
        E: ProvideErrorMetadata + Error + 'static,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut pause = PAUSE;
        let answer = async {
            loop {
                let failure = match question(self.client().await?).await {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(error) => Failure::of(&error),
                };
                if failure.asks_for_fresh_credentials() {
                    *self.client.lock().await = None;
                }
                match Word::of(&failure) {
                    Word::No => return Ok(None),
                    Word::Later => {
                        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                        pause *= 2;
                    }
                    Word::Failed(error) => return Err(error),
                }
            }
        };
        self.within(answer).await
    }

    pub(super) async fn within<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        match timeout(self.settings.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unreachable("timeout".to_owned())),
        }
    }

    pub(super) fn place(&self, key: &str) -> (AttributeValue, AttributeValue) {
        item::place(&self.settings.prefix, key)
    }

    /// The key of an item of this fleet.
    pub(super) fn key(&self, item: &Item) -> Option<String> {
        item::key(&self.settings.prefix, item)
    }

    fn primary(&self, key: &str) -> Item {
        let (pk, sk) = self.place(key);
        [("pk".to_owned(), pk), ("sk".to_owned(), sk)].into()
    }

    pub(super) async fn read(&self, key: &str) -> Result<Option<Item>> {
        let found = self.ask(|client| {
            let get = client.get_item().table_name(&self.settings.table);
            let get = get.set_key(Some(self.primary(key)));
            get.consistent_read(true).send()
        });
        Ok(found.await?.and_then(|found| found.item))
    }

    /// What is at many keys.
    pub(super) async fn states(&self, keys: Vec<&str>) -> Result<HashMap<String, State>> {
        let mut states: HashMap<_, _> =
            (keys.iter().map(|key| ((*key).to_owned(), State::Missing))).collect();
        let mut left: Vec<Item> = keys.into_iter().map(|key| self.primary(key)).collect();
        while !left.is_empty() {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(left))
                .consistent_read(true)
                .projection_expression(HEAD)
                .build()
                .map_err(odd)?;
            let found = self.ask(|client| {
                let table = &self.settings.table;
                let get = client.batch_get_item();
                get.request_items(table, wanted.clone()).send()
            });
            let found = found.await?.ok_or_else(|| odd("batch"))?;
            let items = found
                .responses
                .into_iter()
                .flatten()
                .flat_map(|(_, items)| items);
            for item in items {
                if let Some(key) = self.key(&item) {
                    states.insert(key, State::of(Some(&item)));
                }
            }
            let unread = found.unprocessed_keys.into_iter().flatten();
            left = unread.flat_map(|(_, keys)| keys.keys).collect();
        }
        Ok(states)
    }

    /// Writes an item if a condition holds, and says whether.
    pub(super) async fn put(&self, item: Item, condition: Condition) -> Result<bool> {
        let put = self.ask(|client| {
            let put = client.put_item().table_name(&self.settings.table);
            let values = Some(condition.values()).filter(|values| !values.is_empty());
            put.set_item(Some(item.clone()))
                .condition_expression(condition.expression)
                .set_expression_attribute_values(values)
                .send()
        });
        Ok(put.await?.is_some())
    }

    /// Makes all writes if all conditions hold. Else the numbers of those that do not; none of them: others were writing.
    pub(super) async fn transact(
        &self,
        items: Vec<TransactWriteItem>,
    ) -> Result<Option<Vec<usize>>> {
        let done = self.ask(|client| {
            let write = client.transact_write_items();
            let write = write.set_transact_items(Some(items.clone()));
            async move {
                match write.send().await {
                    Ok(_) => Ok(None),
                    Err(error) => match canceled(&error) {
                        Some(unmet) => Ok(Some(unmet)),
                        None => Err(error),
                    },
                }
            }
        });
        done.await?.ok_or_else(|| odd("transaction"))
    }

    /// Tells who waits for changes. When it fails they see what was written when their patience is over.
    pub(super) async fn raise(&self, keys: impl IntoIterator<Item = &str>) {
        let first = |key: &str| key.split('/').next().map(str::to_owned);
        let parts: BTreeSet<String> = keys.into_iter().filter_map(first).collect();
        for part in parts {
            let raised = self.ask(|client| {
                let raise = client.update_item().table_name(&self.settings.table);
                raise
                    .set_key(Some(self.counter(&part)))
                    .update_expression("ADD n :one")
                    .expression_attribute_values(":one", number(1))
                    .send()
            });
            if let Err(why) = raised.await {
                tracing::debug!(%why, "changes are told late");
            }
        }
    }

    fn counter(&self, part: &str) -> Item {
        let pk = text(format!("{}{COUNTERS}", self.settings.prefix));
        [("pk".to_owned(), pk), ("sk".to_owned(), text(part))].into()
    }

    /// How often something under the first part of a path was written.
    pub(super) async fn count(&self, part: &str) -> Result<u64> {
        let counter = self.ask(|client| {
            let get = client.get_item().table_name(&self.settings.table);
            let get = get.set_key(Some(self.counter(part)));
            get.consistent_read(true).send()
        });
        let counter = counter.await?.and_then(|found| found.item);
        let count = counter.and_then(|item| item.get("n")?.as_n().ok()?.parse().ok());
        Ok(count.unwrap_or_default())
    }

    /// Counts a heartbeat, and writes what came with it. Says whether the registration was still there.
    pub(super) async fn beat(&self, hold: &Hold, value: Option<Bytes>) -> Result<bool> {
        let condition = Condition::registration(hold.term, hold.token);
        let beat = self.ask(|client| {
            let beat = client.update_item().table_name(&self.settings.table);
            let beat = beat
                .set_key(Some(self.primary(&hold.key)))
                .condition_expression(condition.expression)
                .set_expression_attribute_values(Some(condition.values()))
                .expression_attribute_values(":one", number(1));
            match &value {
                Some(value) => beat
                    .update_expression("SET h = h + :one, b = :b")
                    .expression_attribute_values(":b", blob(value.clone())),
                None => beat.update_expression("SET h = h + :one"),
            }
            .send()
        });
        Ok(beat.await?.is_some())
    }

    /// A page of what is in a partition and begins with the rest of a path, without what was deleted.
    pub(super) async fn page(
        &self,
        first: &str,
        rest: &str,
        from: Option<Item>,
    ) -> Result<QueryOutput> {
        let pk = text(format!("{}{first}", self.settings.prefix));
        let page = self.ask(|client| {
            let query = client.query().table_name(&self.settings.table);
            let query = query
                .consistent_read(true)
                .filter_expression("attribute_not_exists(x)")
                .expression_attribute_values(":pk", pk.clone())
                .set_exclusive_start_key(from.clone());
            match rest {
                "" => query.key_condition_expression("pk = :pk"),
                rest => query
                    .key_condition_expression("pk = :pk AND begins_with(sk, :rest)")
                    .expression_attribute_values(":rest", text(rest)),
            }
            .send()
        });
        page.await?.ok_or_else(|| odd("query"))
    }

    /// A write as a part of a transaction.
    pub(super) fn put_of(&self, item: Item, condition: &Condition) -> Result<TransactWriteItem> {
        let values = Some(condition.values()).filter(|values| !values.is_empty());
        let put = Put::builder()
            .table_name(&self.settings.table)
            .set_item(Some(item))
            .condition_expression(condition.expression)
            .set_expression_attribute_values(values)
            .build()
            .map_err(odd)?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// That a condition holds, as a part of a transaction.
    pub(super) fn check_of(&self, key: &str, condition: &Condition) -> Result<TransactWriteItem> {
        let values = Some(condition.values()).filter(|values| !values.is_empty());
        let check = ConditionCheck::builder()
            .table_name(&self.settings.table)
            .set_key(Some(self.primary(key)))
            .condition_expression(condition.expression)
            .set_expression_attribute_values(values)
            .build()
            .map_err(odd)?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }
}

/// What a failure comes to.
enum Word {
    /// A condition does not hold.
    No,
    /// The service has no time, and has done nothing.
    Later,
    Failed(StoreError),
}

impl Word {
    fn of(failure: &Failure) -> Self {
        let told = failure.to_string();
        match failure {
            Failure::Unanswered(why) if why.what == "credentials: none found" => {
                Self::Failed(StoreError::Refused(told))
            }
            Failure::Unanswered(_) => Self::Failed(StoreError::Unreachable(told)),
            Failure::Answered { status, code, .. } => match code.as_deref().unwrap_or_default() {
                "ConditionalCheckFailedException" => Self::No,
                "ProvisionedThroughputExceededException"
                | "TransactionConflictException"
                | "TransactionInProgressException" => Self::Later,
                _ if failure.is_throttled() => Self::Later,
                _ if failure.asks_for_fresh_credentials() || !(400..500).contains(status) => {
                    Self::Failed(StoreError::Unreachable(told))
                }
                _ => Self::Failed(StoreError::Refused(told)),
            },
        }
    }
}

/// The numbers of the conditions that did not hold, if that or another's transaction is why nothing was written.
fn canceled(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Option<Vec<usize>> {
    let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
        error.as_service_error()
    else {
        return None;
    };
    let (mut unmet, mut others) = (Vec::new(), false);
    for (n, reason) in canceled.cancellation_reasons().iter().enumerate() {
        match reason.code().unwrap_or("None") {
            "None" => {}
            "ConditionalCheckFailed" => unmet.push(n),
            "TransactionConflict" | "ProvisionedThroughputExceeded" | "ThrottlingError" => {
                others = true;
            }
            // The request itself: not for the caller to read again.
            _ => return None,
        }
    }
    (others || !unmet.is_empty()).then_some(unmet)
}

/// An answer that the service does not give, or a request that cannot be built.
fn odd<E>(_: E) -> StoreError {
    StoreError::Unreachable("an odd answer".to_owned())
}
