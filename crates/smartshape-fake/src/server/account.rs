//! Accounts and their permissions.

use std::fmt;

/// A user account of the fake.
#[derive(Clone)]
pub struct Account {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) permissions: Vec<Permission>,
}

impl Account {
    /// An account with every permission.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        let permissions =
            vec![Permission::ReadWebhook, Permission::WriteWebhook, Permission::WriteAttributes];
        Self { username: username.into(), password: password.into(), permissions }
    }

    /// Replaces the permissions.
    #[must_use]
    pub fn with_permissions(mut self, permissions: impl IntoIterator<Item = Permission>) -> Self {
        self.permissions = permissions.into_iter().collect();
        self
    }

    /// The user name.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A permission of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission {
    /// `read_webhook`: list webhooks.
    ReadWebhook,
    /// `write_webhook`: create and delete webhooks.
    WriteWebhook,
    /// Change attributes; SmartShape does not document the permission's name.
    WriteAttributes,
}
