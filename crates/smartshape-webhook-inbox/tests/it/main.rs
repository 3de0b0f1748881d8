//! The promises of the inbox, on both engines.

mod bench;
#[cfg(feature = "sqlite")]
mod clocks;
#[cfg(feature = "postgres")]
mod contention;
mod faults;
#[cfg(feature = "sqlite")]
mod files;
#[cfg(feature = "postgres")]
mod grants;
mod limits;
#[cfg(feature = "postgres")]
mod link;
#[cfg(feature = "sqlite")]
mod log;
#[cfg(feature = "sqlite")]
mod measure;
#[cfg(all(unix, feature = "postgres"))]
mod pooler;
#[cfg(feature = "postgres")]
mod server;
#[cfg(feature = "postgres")]
mod silence;
mod stuck;
#[cfg(feature = "sqlite")]
mod twice;

#[cfg(feature = "sqlite")]
mod sqlite {
    smartshape_webhook_inbox::engine_suite!(crate::bench::File);
}

#[cfg(feature = "postgres")]
mod postgres {
    smartshape_webhook_inbox::engine_suite!(crate::bench::Server);
}
