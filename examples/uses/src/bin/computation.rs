//! Runs a computation: prints the total of the attribute `mass` in each update.

use std::error::Error;
use std::io::Write as _;

use smartshape_webhook_tower::{AttributeUpdated, Delivery, EventRouter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let router = EventRouter::new().on(|event: AttributeUpdated, _: Delivery| async move {
        // A computation would hold up every other request of an async thread.
        let total = tokio::task::spawn_blocking(move || total_mass(&event)).await?;
        writeln!(std::io::stdout(), "total mass: {total}")?;
        Ok(())
    });
    // Events of other kinds are acknowledged and ignored.
    example_uses::serve(router.fallback(|_: Delivery| async { Ok(()) })).await
}

fn total_mass(event: &AttributeUpdated) -> f64 {
    let masses = event.attributes().filter(|(_, attribute)| attribute.name == "mass");
    masses.filter_map(|(_, attribute)| attribute.as_f64()).sum()
}
