//! What it takes to build an adapter beside its bare framework.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use bench_report::{Cell, Figure, Part, Table};

use super::{Run, locked};
use crate::Outcome;
use crate::server::Framework;

/// A package that serves one route, alone or with the adapter.
struct Package {
    folder: PathBuf,
}

pub(super) fn measure(run: Run<'_>) -> Outcome<Part> {
    let rounds = if run.quick { 1 } else { 3 };
    run.cores.share()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize()?;
    let mut rows = Vec::new();
    for framework in Framework::ALL {
        let packages = [false, true].map(|with| Package::write(&root, framework, with));
        let [bare, with] =
            packages.into_iter().collect::<Outcome<Vec<_>>>()?.try_into().map_err(|_| "two packages")?;
        let (bare_crates, with_crates) = (bare.crates()?, with.crates()?);
        let (mut bare_seconds, mut with_seconds) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            bare_seconds.push(bare.build()?);
            with_seconds.push(with.build()?);
        }
        let more: Vec<f64> = with_seconds.iter().zip(&bare_seconds).map(|(with, bare)| with - bare).collect();
        rows.push(vec![
            Cell::Text(framework.name().to_owned()),
            Cell::once(bare_crates.len() as f64, 0),
            Cell::once(with_crates.len() as f64, 0),
            Cell::once(with_crates.difference(&bare_crates).count() as f64, 0),
            Cell::Figure(Figure::of(bare_seconds), 1),
            Cell::Figure(Figure::of(with_seconds), 1),
            Cell::Figure(Figure::of(more), 1),
        ]);
    }
    Ok(Part {
        name: "adopt",
        title: "Cost to adopt",
        meaning: "A package with one route, on the bare framework and with our adapter: how many crates its tree has \
                  (its own not counted), and how long a clean debug build takes, with everything downloaded before. \
                  The two took turns. Many programs have some of the added crates already. There is no figure to \
                  reach: fewer is better."
            .to_owned(),
        facts: vec![("jobs", "as many as there are cores".to_owned())],
        tables: vec![Table {
            title: "",
            meaning: String::new(),
            columns: vec![
                "framework",
                "bare, crates",
                "with ours, crates",
                "added, crates",
                "bare, s",
                "with ours, s",
                "added, s",
            ],
            rows,
        }],
        charts: Vec::new(),
    })
}

impl Package {
    /// Below the target folder, with this workspace's versions.
    fn write(root: &Path, framework: Framework, with_ours: bool) -> Outcome<Self> {
        let (krate, adapter) = match framework {
            Framework::Axum => ("axum", "smartshape-webhook-tower"),
            Framework::Actix => ("actix-web", "smartshape-webhook-actix"),
            Framework::Warp => ("warp", "smartshape-webhook-warp"),
        };
        let name = format!("adopt-{krate}-{}", if with_ours { "with" } else { "bare" });
        let folder = std::env::current_exe()?.with_file_name("bench-adopt").join(&name);
        let features = match framework {
            Framework::Axum => r#"["http1", "tokio"]"#,
            Framework::Actix => r#"["macros"]"#,
            Framework::Warp => r#"["server"]"#,
        };
        let version = locked(krate);
        let mut manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
             {krate} = {{ version = \"{version}\", default-features = false, features = {features} }}\n"
        );
        if framework != Framework::Actix {
            manifest +=
                "tokio = { version = \"1\", features = [\"macros\", \"net\", \"rt-multi-thread\"] }\n";
        }
        if with_ours {
            let path = root.join("crates").join(adapter);
            manifest += &format!("{adapter} = {{ path = {:?} }}\n", path.display().to_string());
        }
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("Cargo.toml"), manifest)?;
        fs::write(folder.join("src/main.rs"), main_of(framework, with_ours))?;
        // The same versions; what is too much is taken out.
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        Ok(Self { folder })
    }

    /// Of its tree, on this machine, without itself.
    fn crates(&self) -> Outcome<BTreeSet<String>> {
        let tree = ["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--no-dedupe"];
        let output = self.cargo(&tree).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err("`cargo tree` failed".into());
        }
        let text = String::from_utf8(output.stdout)?;
        let crates = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?))
        });
        Ok(crates.filter(|name| !name.starts_with("adopt-")).collect())
    }

    /// How many seconds a clean build takes.
    fn build(&self) -> Outcome<f64> {
        let target = self.folder.join("target");
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        let begun = Instant::now();
        let status = self.cargo(&["build", "--offline", "--quiet"]).status()?;
        let seconds = begun.elapsed().as_secs_f64();
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        if status.success() { Ok(seconds) } else { Err("a package could not be built".into()) }
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.folder).env("CARGO_TARGET_DIR", self.folder.join("target"));
        command
    }
}

fn main_of(framework: Framework, with_ours: bool) -> &'static str {
    match (framework, with_ours) {
        (Framework::Axum, false) => {
            r#"use axum::{Router, routing::post};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = Router::new().route("/callback", post(|_: String| async { "{}" }));
    Ok(axum::serve(tokio::net::TcpListener::bind("127.0.0.1:0").await?, app).await?)
}
"#
        }
        (Framework::Axum, true) => {
            r#"use axum::Router;
use smartshape_webhook_tower::{Delivery, Receiver, Secret, endpoint};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let receiver = Receiver::new(Secret::from_env("SECRET")?)?;
    let app: Router = Router::new().route_service("/callback", endpoint(receiver, |_: Delivery| async { Ok(()) }));
    Ok(axum::serve(tokio::net::TcpListener::bind("127.0.0.1:0").await?, app).await?)
}
"#
        }
        (Framework::Actix, false) => {
            r#"use actix_web::{App, HttpServer, web};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = || App::new().route("/callback", web::post().to(|_: web::Bytes| async { "{}" }));
    Ok(HttpServer::new(app).bind("127.0.0.1:0")?.run().await?)
}
"#
        }
        (Framework::Actix, true) => {
            r#"use actix_web::{App, HttpServer};
use smartshape_webhook_actix::{Delivery, Receiver, Secret, endpoint};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let receiver = Receiver::new(Secret::from_env("SECRET")?)?;
    let app = move || App::new().route("/callback", endpoint(receiver.clone(), |_: Delivery| async { Ok(()) }));
    Ok(HttpServer::new(app).bind("127.0.0.1:0")?.run().await?)
}
"#
        }
        (Framework::Warp, false) => {
            r#"use warp::Filter;

#[tokio::main]
async fn main() {
    let routes = warp::path("callback").and(warp::body::bytes()).map(|_| "{}");
    warp::serve(routes).run(([127, 0, 0, 1], 0)).await;
}
"#
        }
        (Framework::Warp, true) => {
            r#"use smartshape_webhook_warp::{Delivery, Receiver, Secret, endpoint};
use warp::Filter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let receiver = Receiver::new(Secret::from_env("SECRET")?)?;
    let routes = warp::path("callback").and(endpoint(receiver, |_: Delivery| async { Ok(()) }));
    warp::serve(routes).run(([127, 0, 0, 1], 0)).await;
    Ok(())
}
"#
        }
    }
}
