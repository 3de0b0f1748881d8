//! What the fake SmartShape knows: accounts, webhooks, attributes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use smartshape_webhook::EventKind;

use super::{Account, Disturbance, FakeBuilder};
use crate::payload::EventPayload;
use crate::random;
use crate::sender::{Log, Outcome, Sender, SenderSettings};

// Bounds of a store that anybody on this machine can fill.
/// Logins beyond this end the oldest.
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
    /// Bearer tokens and whose they are.
    bearers: VecDeque<(String, String)>,
    sessions: BTreeMap<String, String>,
    webhooks: Vec<Webhook>,
    attributes: Vec<StoredAttribute>,
    /// Where an attribute stands in the list: a search would make long upserts quadratic.
    places: HashMap<(Option<String>, String, String), usize>,
    disturbances: VecDeque<Disturbance>,
}

#[derive(Clone)]
pub(crate) struct Webhook {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) event: EventKind,
    pub(crate) url: String,
    sender: Sender,
}

/// A webhook that is registered at the fake.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoredWebhook {
    /// Its id.
    pub id: String,
    /// The user name of who registered it.
    pub owner: String,
    /// The event.
    pub event: EventKind,
    /// Where it points at.
    pub url: String,
    secret: Arc<str>,
}

impl StoredWebhook {
    /// The secret it was registered with.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for StoredWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, owner, event, url, secret: _ } = self;
        let mut shown = f.debug_struct("StoredWebhook");
        shown.field("id", id).field("owner", owner).field("event", event).field("url", url);
        shown.finish_non_exhaustive()
    }
}

/// An attribute that was upserted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredAttribute {
    /// The file, where the call named one.
    pub file: Option<String>,
    /// The node or annotation.
    pub node: String,
    /// The attribute's name.
    pub name: String,
    /// Its value.
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

    /// The account that a bearer token stands for.
    pub(crate) fn account(&self, bearer: &str) -> Option<Account> {
        let username = self.store().bearers.iter().find(|(known, _)| known == bearer)?.1.clone();
        self.settings.accounts.iter().find(|account| account.username == username).cloned()
    }

    /// A session for the account; `None` when no licence seat is free.
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

    /// The new webhook's id; `None` when the store is full.
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
        store.webhooks.push(Webhook { id: id.clone(), owner: owner.to_owned(), event, url, sender });
        Some(id)
    }

    pub(crate) fn webhooks_of(&self, owner: &str) -> Vec<Webhook> {
        self.store().webhooks.iter().filter(|webhook| webhook.owner == owner).cloned().collect()
    }

    /// All webhooks, oldest first.
    pub(crate) fn webhooks(&self) -> Vec<StoredWebhook> {
        let stored = |webhook: &Webhook| StoredWebhook {
            id: webhook.id.clone(),
            owner: webhook.owner.clone(),
            event: webhook.event,
            url: webhook.url.clone(),
            secret: webhook.sender.secret(),
        };
        self.store().webhooks.iter().map(stored).collect()
    }

    pub(crate) fn disturb(&self, disturbance: Disturbance) {
        self.store().disturbances.push_back(disturbance);
    }

    /// Counts a call of the web API; the disturbance whose turn it is.
    pub(crate) fn next_disturbance(&self) -> Option<Disturbance> {
        let mut store = self.store();
        if store.disturbances.front_mut()?.is_due() { store.disturbances.pop_front() } else { None }
    }

    pub(crate) fn delete_webhook(&self, owner: &str, id: &str) -> bool {
        let mut store = self.store();
        let before = store.webhooks.len();
        store.webhooks.retain(|webhook| webhook.id != id || webhook.owner != owner);
        store.webhooks.len() < before
    }

    /// Stores attributes; false when the store is full.
    pub(crate) fn upsert(&self, attributes: Vec<StoredAttribute>) -> bool {
        let mut store = self.store();
        for new in attributes {
            let key = (new.file.clone(), new.node.clone(), new.name.clone());
            let place = store.places.get(&key).copied();
            if let Some(old) = place.and_then(|place| store.attributes.get_mut(place)) {
                old.value = new.value;
            } else if store.attributes.len() < MAX_ATTRIBUTES {
                let place = store.attributes.len();
                store.places.insert(key, place);
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

    pub(crate) fn deliveries(&self) -> Vec<Outcome> {
        self.log.entries()
    }

    /// Sends an event to every webhook that is registered for it, `copies` times at once.
    pub(crate) async fn send(&self, event: &EventPayload, copies: usize) -> Vec<Outcome> {
        let registered: Vec<Webhook> = self
            .store()
            .webhooks
            .iter()
            .filter(|webhook| webhook.event.as_str() == event.event())
            .cloned()
            .collect();
        let sent: Vec<_> = registered
            .into_iter()
            .map(|webhook| {
                // SmartShape's event carries whose webhook it is.
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
