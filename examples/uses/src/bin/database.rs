//! Updates another database: keeps the attributes of all models in the SQLite file `DATABASE`.
//!
//! SmartShape sends a delivery again if it saw no acknowledgement, even after the work was done. So the delivery's key
//! is committed together with what it changes, and a delivery whose key is there already changes nothing.

use std::error::Error;

use smartshape_webhook_tower::{Delivery, Event, HandlerError};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS handled (delivery TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS attributes (
        file TEXT, node TEXT, name TEXT, value TEXT, updates INTEGER, PRIMARY KEY (file, node, name))";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::var("DATABASE")?;
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    example_uses::serve(move |delivery| update(pool.clone(), delivery)).await
}

async fn update(pool: SqlitePool, delivery: Delivery) -> Result<(), HandlerError> {
    let Event::AttributeUpdated(event) = delivery.event() else { return Ok(()) };
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let is_new = sqlx::query("INSERT OR IGNORE INTO handled VALUES (?)")
        .bind(delivery.key().to_string())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if is_new == 0 {
        return Ok(());
    }
    for (node, attribute) in event.attributes() {
        sqlx::query(
            "INSERT INTO attributes VALUES (?, ?, ?, ?, 1)
             ON CONFLICT DO UPDATE SET value = excluded.value, updates = updates + 1",
        )
        .bind(delivery.file().as_str())
        .bind(node.as_str())
        .bind(&attribute.name)
        .bind(attribute.text())
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}
