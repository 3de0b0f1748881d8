//! State of the fake: logins, webhooks, attributes, pending fault injections.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use smartshape_webhook::EventKind;

use super::account::Account;
use super::builder::FakeBuilder;
use super::fault_injection::FaultInjection;
use crate::payload::EventPayload;
use crate::random;
use crate::sender::{DeliveryOutcome, Log, Sender, SenderSettings};

// Anybody on this machine can call the fake, so what it keeps is bounded.
/// Maximum number of bearer tokens. Further logins evict the oldest.
const MAX_LOGINS: usize = 1000;
const MAX_WEBHOOKS: usize = 10_000;
const MAX_ATTRIBUTES: usize = 1_000_000;

pub(crate) struct State {
    pub(crate) settings: FakeBuilder,
    sender: Arc<SenderSettings>,
    log: Log,
    store: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    /// Bearer tokens with their user names, oldest first.
    bearers: VecDeque<(String, String)>,
    /// User names by session token.
    sessions: BTreeMap<String, String>,
    webhooks: Vec<StoredWebhook>,
    attributes: Vec<StoredAttribute>,
    /// Index of each attribute in the list; a linear search would make long upserts quadratic.
    indices: HashMap<(Option<String>, String, String), usize>,
    injections: VecDeque<FaultInjection>,
}

/// A webhook registered at the fake.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredWebhook {
    /// The webhook's id.
    pub id: String,
    /// User name of its owner.
    pub owner: String,
    /// The event.
    pub event: EventKind,
    /// Callback URL.
    pub url: String,
    sender: Sender,
}

impl StoredWebhook {
    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.sender.secret()
    }
}

/// An upserted attribute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredAttribute {
    /// The file's id, if the call had one.
    pub file: Option<String>,
    /// Id of the node or annotation.
    pub node: String,
    /// The attribute's name.
    pub name: String,
    /// The attribute's value.
    pub value: Value,
}

impl State {
    pub(crate) fn new(settings: FakeBuilder) -> Self {
        let sender = Arc::new(settings.sender.clone());
        Self { settings, sender, log: Log::default(), store: Mutex::default() }
    }

    pub(crate) fn login(&self, username: &str, password: &str) -> Option<String> {
        let account = self
            .settings
            .accounts
            .iter()
            .find(|known| known.username == username && known.password == password)?;
        let bearer = format!("fake.{}.jwt", random::hex(24));
        let mut store = self.store();
        if store.bearers.len() >= MAX_LOGINS {
            store.bearers.pop_front();
        }
        store.bearers.push_back((bearer.clone(), account.username.clone()));
        Some(bearer)
    }

    /// The account of a bearer token.
    pub(crate) fn account(&self, bearer: &str) -> Option<Account> {
        let username = self.store().bearers.iter().find(|(known, _)| known == bearer)?.1.clone();
        self.settings.accounts.iter().find(|account| account.username == username).cloned()
    }

    /// Opens a session; `None` if no licence seat is free.
    pub(crate) fn open_session(&self, username: &str) -> Option<String> {
        let mut store = self.store();
        if store.sessions.len() >= self.settings.seats {
            return None;
        }
        let session = format!("fake.{}.session", random::hex(24));
        store.sessions.insert(session.clone(), username.to_owned());
        Some(session)
    }

    pub(crate) fn has_session(&self, session: &str, username: &str) -> bool {
        self.store().sessions.get(session).is_some_and(|owner| owner == username)
    }

    pub(crate) fn expire_tokens(&self) {
        let mut store = self.store();
        store.bearers.clear();
        store.sessions.clear();
    }

    /// The new webhook's id; `None` if the store is full.
    pub(crate) fn add_webhook(
        &self,
        owner: &str,
        event: EventKind,
        url: String,
        secret: String,
    ) -> Option<String> {
        let sender = Sender::logging_to(secret, Arc::clone(&self.sender), self.log.clone());
        let id = random::hex(12);
        let mut store = self.store();
        if store.webhooks.len() >= MAX_WEBHOOKS {
            return None;
        }
        store.webhooks.push(StoredWebhook { id: id.clone(), owner: owner.to_owned(), event, url, sender });
        Some(id)
    }

    /// All webhooks, oldest first.
    pub(crate) fn webhooks(&self) -> Vec<StoredWebhook> {
        self.store().webhooks.clone()
    }

    pub(crate) fn inject(&self, injection: FaultInjection) {
        self.store().injections.push_back(injection);
    }

    /// Counts a call of the web API and returns the fault to inject into it.
    pub(crate) fn next_injection(&self) -> Option<FaultInjection> {
        let mut store = self.store();
        if store.injections.front_mut()?.is_due() { store.injections.pop_front() } else { None }
    }

    pub(crate) fn delete_webhook(&self, owner: &str, id: &str) -> bool {
        let mut store = self.store();
        let before = store.webhooks.len();
        store.webhooks.retain(|webhook| webhook.id != id || webhook.owner != owner);
        store.webhooks.len() < before
    }

    /// Stores attributes; `false` if the store is full.
    pub(crate) fn upsert(&self, attributes: Vec<StoredAttribute>) -> bool {
        let mut store = self.store();
        for new in attributes {
            let key = (new.file.clone(), new.node.clone(), new.name.clone());
            let index = store.indices.get(&key).copied();
            if let Some(old) = index.and_then(|index| store.attributes.get_mut(index)) {
                old.value = new.value;
            } else if store.attributes.len() < MAX_ATTRIBUTES {
                let index = store.attributes.len();
                store.indices.insert(key, index);
                store.attributes.push(new);
            } else {
                return false;
            }
        }
        true
    }

    pub(crate) fn attributes(&self) -> Vec<StoredAttribute> {
        self.store().attributes.clone()
    }

    pub(crate) fn deliveries(&self) -> Vec<DeliveryOutcome> {
        self.log.entries()
    }

    /// Sends an event to every webhook registered for it, `copies` times concurrently.
    pub(crate) async fn send(&self, event: &EventPayload, copies: usize) -> Vec<DeliveryOutcome> {
        let registered =
            self.webhooks().into_iter().filter(|webhook| webhook.event.as_str() == event.event());
        let sent: Vec<_> = registered
            .map(|webhook| {
                // SmartShape sets the event's owner to the webhook's owner.
                let event = event.clone().or_owner(webhook.owner);
                tokio::spawn(async move { webhook.sender.deliver_copies(&event, &webhook.url, copies).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for one in sent {
            outcomes.extend(one.await.unwrap_or_default());
        }
        outcomes
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
