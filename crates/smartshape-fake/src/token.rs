//! Tokens, as SmartShape makes them of a webhook's secret.

/// The variant of bcrypt that a token names. SmartShape's is not documented; it runs on Node,
/// where `2b` and `2a` are usual.
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

/// Makes a token for `secret`: its bcrypt hash of this cost (4 to 31), under a new salt.
///
/// ```
/// let token = smartshape_fake::token("a long and random string", 4, smartshape_fake::Prefix::TwoB)?;
/// assert!(token.starts_with("$2b$04$"));
/// # Ok::<(), smartshape_fake::TokenError>(())
/// ```
///
/// # Errors
///
/// [`TokenError`] when the cost is none of bcrypt's.
pub fn token(secret: &str, cost: u32, prefix: Prefix) -> Result<String, TokenError> {
    let parts = bcrypt::hash_with_result(secret, cost).map_err(|_| TokenError(cost))?;
    Ok(parts.format_for_version(match prefix {
        Prefix::TwoA => bcrypt::Version::TwoA,
        Prefix::TwoB => bcrypt::Version::TwoB,
        Prefix::TwoY => bcrypt::Version::TwoY,
    }))
}

/// No token could be made with this cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenError(u32);

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no token of cost {}: bcrypt's costs go from 4 to 31", self.0)
    }
}

impl std::error::Error for TokenError {}
