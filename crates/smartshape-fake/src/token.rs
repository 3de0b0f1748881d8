//! Tokens, which SmartShape derives from a webhook's secret.

/// The bcrypt variant of a token. SmartShape does not document its variant; it runs on Node, where `2b` and `2a` are
/// common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefix {
    /// `$2a$`
    TwoA,
    /// `$2b$`
    #[default]
    TwoB,
    /// `$2y$`
    TwoY,
}

/// Makes a token for `secret`: its bcrypt hash with this cost (4 to 31) and a new salt.
///
/// ```
/// let token = smartshape_fake::token("a long and random string", 4, smartshape_fake::Prefix::TwoB)?;
/// assert!(token.starts_with("$2b$04$"));
/// # Ok::<(), smartshape_fake::InvalidCost>(())
/// ```
///
/// # Errors
///
/// [`InvalidCost`] when the cost is not from 4 to 31.
pub fn token(secret: &str, cost: u32, prefix: Prefix) -> Result<String, InvalidCost> {
    let parts = bcrypt::hash_with_result(secret, cost).map_err(|_| InvalidCost(cost))?;
    Ok(parts.format_for_version(match prefix {
        Prefix::TwoA => bcrypt::Version::TwoA,
        Prefix::TwoB => bcrypt::Version::TwoB,
        Prefix::TwoY => bcrypt::Version::TwoY,
    }))
}

/// The cost is not from 4 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCost(u32);

impl std::fmt::Display for InvalidCost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no token of cost {}: bcrypt's costs go from 4 to 31", self.0)
    }
}

impl std::error::Error for InvalidCost {}
