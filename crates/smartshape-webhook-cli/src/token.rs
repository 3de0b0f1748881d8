//! `smartshape token`: the bcrypt hashes of a secret that deliveries carry.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use smartshape_fake::Prefix;
use smartshape_webhook::{Secret, Token};

use crate::failure::{CliResult, Failure, failed};
use crate::input::{self, SecretArgument};
use crate::output::{self, ERROR, SUCCESS, styled};
use crate::recording::Report;

/// bcrypt's lowest cost.
const MIN_COST: u32 = 4;
/// A receiver's default `max_cost`: it rejects tokens of a higher cost.
const USUAL_MAX_COST: u32 = 12;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes tokens of a secret
    Sign(Sign),
    /// Verifies a token against a secret; exit code 1 if it does not match
    Verify(Verify),
    /// Shows prefix and cost of a token, or analyzes a recording's tokens and retries
    Inspect(Inspect),
}

/// How a token is made. SmartShape's own choices are not documented.
#[derive(Args)]
#[command(next_help_heading = "How the token is made")]
pub(crate) struct TokenOptions {
    /// The cost, from 4 to 31; each step doubles the time it takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=31))]
    cost: u32,
    /// The variant of bcrypt
    #[arg(long, value_parser = prefix(), default_value = "2b")]
    prefix: Prefix,
}

impl TokenOptions {
    /// Whether the cost is above bcrypt's lowest, so that another token could be verified faster.
    pub(crate) fn is_costly(&self) -> bool {
        self.cost > MIN_COST
    }
}

fn prefix() -> impl TypedValueParser<Value = Prefix> {
    PossibleValuesParser::new(["2a", "2b", "2y"]).map(|name| match name.as_str() {
        "2a" => Prefix::TwoA,
        "2y" => Prefix::TwoY,
        _ => Prefix::TwoB,
    })
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Salt {
    /// Every token differs
    Fresh,
    /// All tokens of this call are the same
    Fixed,
}

#[derive(Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    secret: SecretArgument,
    #[command(flatten)]
    token_options: TokenOptions,
    /// How many
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// The salt of several tokens
    #[arg(long, value_enum, default_value = "fresh")]
    salt: Salt,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The token; - reads it from standard input
    #[arg(value_name = "TOKEN")]
    checked: String,
    #[command(flatten)]
    secret: SecretArgument,
    /// Rejects tokens of a higher cost: one of cost 31 takes more than a day
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(4..=31))]
    max_cost: u32,
}

#[derive(Args)]
#[command(after_help = "\
Over a recording of `webhook listen --record FILE`: prefix and cost of all tokens; whether a webhook's salt is fixed or
fresh; whether a retry repeats the uuid, and when it comes; whether events come in order. To see retries, let the
listener reject some deliveries: --fail-first 5.")]
pub(crate) struct Inspect {
    /// The token; - reads it from standard input
    #[arg(value_name = "TOKEN", required_unless_present = "recording")]
    checked: Option<String>,
    /// A recording instead; - reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with = "checked")]
    recording: Option<String>,
}

impl Command {
    pub(crate) fn run(self) -> CliResult {
        match self {
            Self::Sign(sign) => sign.run(),
            Self::Verify(verify) => verify.run(),
            Self::Inspect(inspect) => inspect.run(),
        }
    }
}

/// A token of `secret`.
pub(crate) fn sign(secret: &Secret, token_options: &TokenOptions) -> CliResult<String> {
    smartshape_fake::token(secret.expose(), token_options.cost, token_options.prefix)
        .map_err(|error| Failure::usage(error.to_string()))
}

impl Sign {
    fn run(self) -> CliResult {
        let secret = self.secret.get()?;
        let mut token = sign(&secret, &self.token_options)?;
        for number in 0..self.count {
            if number > 0 && self.salt == Salt::Fresh {
                token = sign(&secret, &self.token_options)?;
            }
            output::result(&json!({"token": token}), &token)?;
            if output::is_unread() {
                break;
            }
        }
        Ok(())
    }
}

impl Verify {
    fn run(self) -> CliResult {
        let (text, token) = parsed(&self.checked)?;
        let secret = self.secret.get()?;
        if token.cost() > self.max_cost {
            return Err(failed!(
                "the token's cost is {}, which would take too long: allow it with --max-cost",
                token.cost()
            ));
        }
        let hash: bcrypt_lanes::Hash =
            text.parse().map_err(|error| failed!("the token cannot be checked: {error}"))?;
        let belongs = bcrypt_lanes::verify(secret.expose(), &hash);
        let text = if belongs {
            styled("the token belongs to the secret", SUCCESS)
        } else {
            styled("the token does not belong to the secret", ERROR)
        };
        output::result(&json!({"belongs": belongs}), text)?;
        if belongs { Ok(()) } else { Err(Failure::printed()) }
    }
}

impl Inspect {
    fn run(self) -> CliResult {
        match (&self.recording, &self.checked) {
            (Some(path), _) => recording(path),
            (None, Some(token)) => form(token),
            // clap accepts no such arguments.
            (None, None) => Err(Failure::usage("give a token, or a --recording")),
        }
    }
}

fn form(token: &str) -> CliResult {
    let (_, token) = parsed(token)?;
    let (prefix, cost) = (token.prefix(), token.cost());
    let rounds = 1_u64 << cost;
    let outcome = if cost > USUAL_MAX_COST { "reject it unless max_cost is raised" } else { "check it" };
    output::result(
        &json!({"prefix": prefix, "cost": cost, "rounds": rounds}),
        format_args!(
            "prefix  {prefix}\ncost    {cost} ({rounds} rounds)\nreceivers of this project {outcome} (max_cost \
             {USUAL_MAX_COST} by default)"
        ),
    )
}

fn recording(path: &str) -> CliResult {
    let report = Report::read(input::lines(path, "the recording")?).map_err(|why| {
        let name = if path == "-" { "standard input" } else { path };
        failed!("{name} {why}")
    })?;
    output::result(&json!(report), report)
}

fn parsed(argument: &str) -> CliResult<(String, Token)> {
    let text = input::argument_or_stdin(argument, "the token")?;
    let token = Token::parse(text.as_bytes())
        .map_err(|error| failed!("{error}: in a shell, put it between single quotes, since it holds $"))?;
    Ok((text, token))
}
