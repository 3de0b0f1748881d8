//! `smartshape relay`: its settings, and how wrong ones are named.

use std::path::Path;

use tokio::process::Command;

use crate::relay::{Relay, command};
use crate::support::{Home, RunResult, run};

async fn run_with(home: &Home, settings: &str) -> RunResult {
    home.write("relay.toml", settings);
    run(command(home, &["--config", "relay.toml"]).env("SHORT", "u:p")).await
}

/// A file that is right but for `line`.
fn with_route(line: &str) -> String {
    format!("inbox = 'relay.db'\n\n[[route]]\nto = 'https://app.example.com/events'\n{line}\n")
}

#[tokio::test]
async fn wrong_settings_are_one_line_with_file_line_and_key() {
    let home = Home::new();
    home.write("exec", "exec:true\n");
    // Each is the fifth line, of a route, in a file that is right otherwise.
    let lines = [
        ("timeout = 5", "timeout: there is no such key; here are: events, to, timeout_seconds, "),
        ("args = ['a']", "args: there is no such key"),
        ("signing_secret = { var = 'A' }", "signing_secret.var: there is no such key; here are: env, file"),
        ("events = 'file_uploaded'", "events: this must be an array of strings"),
        ("events = [1]", "events: this must be a string"),
        ("timeout_seconds = 0", "timeout_seconds: this must be a whole number from 1 to 86400"),
        ("events = []", "events: this array is empty"),
        ("ca_cert = 'none.pem'", "ca_cert: cannot read this file"),
        ("ca_cert = 'relay.toml'", "ca_cert: the root certificates are not in PEM form"),
        ("signing_secret = 'whsec_abcdefgh'", "signing_secret: this must say where the value is: { env = "),
        ("signing_secret = {}", "signing_secret: this must say where the value is"),
        (
            "signing_secret = { env = 'NOT_SET' }",
            "signing_secret: the environment variable NOT_SET is not set",
        ),
        ("signing_secret = { file = 'none' }", "signing_secret: cannot read none: "),
        ("signing_secret = { env = 'A', file = 'b' }", "signing_secret.file: env is set too"),
        (
            "signing_secret = { file = 'relay.toml' }",
            "signing_secret: the signing secret is invalid: it does not begin with whsec_",
        ),
    ];
    let files = [
        // The file is not TOML.
        ("listen = 127.0.0.1:8042", "line 1: listen: this is not TOML: "),
        ("inbox = 'relay.db\nlisten = '127.0.0.1:1'", "line 1: inbox: this is not TOML: "),
        ("inbox relay.db", "line 1: this is not TOML: "),
        ("inbox: relay.db", "line 1: this is not TOML: "),
        ("inbox = 'a'\ninbox = 'b'", "line 2: inbox: this is not TOML: "),
        ("[[route]\nto = 'exec:true'", "line 1: this is not TOML: "),
        (
            "[route]\nto = 'exec:true'\n[route] # another\nto = 'exec:false'",
            "line 3: this is not TOML: duplicate key; write [[route]] above the keys of each",
        ),
        ("inbox = 'a'\n[inbox]", "line 2: this is not TOML: duplicate key\n"),
        // Unknown keys.
        ("lisen = '127.0.0.1:1'", "line 1: lisen: there is no such key; here are: listen, "),
        ("inbox = 'relay.db'\nLISTEN = '127.0.0.1:1'", "line 2: LISTEN: there is no such key"),
        ("[[routes]]\nto = 'exec:true'", "line 1: routes: there is no such key"),
        ("[relay]\nlisten = '127.0.0.1:1'", "line 1: relay: there is no such key"),
        ("[[route]]\nto = 'exec:true'\nca_cert = 'a.pem'", "line 3: route.ca_cert: there is no such key"),
        // They come before all else, since a misspelt key is often why another one is missing.
        ("[[route]]\ntoo = 'exec:true'", "line 2: route.too: there is no such key; here are: events, to, "),
        ("[[secret]]\nnames = 'a'", "line 2: secret.names: there is no such key"),
        ("concurrency = '8'\nlisen = '127.0.0.1:1'", "line 2: lisen: there is no such key"),
        (
            "concurrency = '8'\n[[route]]\nto = 'exec:/no/program'\ntimeout = 5",
            "line 4: route.timeout: there is no such key; here are: events, to, timeout_seconds, args",
        ),
        (
            "[[route]]\nto = { file = 'exec' }\nsigning_secret = 'a'",
            "line 3: route.signing_secret: there is no such key; here are: events, to, timeout_seconds, args",
        ),
        // Values of another type.
        ("listen = 8042", "line 1: listen: this must be a string, in quotation marks"),
        ("inbox = true", "line 1: inbox: this must be a string"),
        ("concurrency = '8'", "line 1: concurrency: this must be a whole number from 1 to 256"),
        ("ordered_by_file = 'yes'", "line 1: ordered_by_file: this must be true or false"),
        ("ordered_by_file = 1", "line 1: ordered_by_file: this must be true or false"),
        ("[route]\nto = 'exec:true'", "line 1: route: write [[route]] above the keys of each"),
        ("route = ['exec:true']", "line 1: route: write [[route]] above the keys of each"),
        // Impossible values.
        ("inbox = ''", "line 1: inbox: this is empty"),
        ("listen = 'localhost:8042'", "line 1: listen: this must be an IP address and a port"),
        ("listen = '127.0.0.1'", "line 1: listen: this must be an IP address and a port"),
        ("path = 'callback'", "line 1: path: this must begin with /"),
        ("path = '/{all}'", "line 1: path: this must begin with / and may have letters"),
        ("path = '/ready'", "line 1: path: the relay responds there itself"),
        ("max_attempts = 0", "line 1: max_attempts: this must be a whole number from 1 to "),
        ("max_attempts = -1", "line 1: max_attempts: this must be a whole number"),
        ("max_attempts = 1.5", "line 1: max_attempts: this must be a whole number"),
        (
            "max_backoff_seconds = 99999999999999999999",
            "line 1: max_backoff_seconds: this must be a whole number",
        ),
        // Routes.
        ("[[route]]\nevents = ['file_uploaded']", "line 1: route.to: this key is missing"),
        (
            "[[route]]\nto = 'app.example.com'",
            "line 2: route.to: this must begin with https://, http://, nats:// or exec:",
        ),
        ("[[route]]\nto = 'https://'", "line 2: route.to: the URL is invalid: "),
        (
            "[[route]]\nto = 'https://u:p@app.example.com'",
            "line 2: route.to: the URL is invalid: it contains a user name or password",
        ),
        (
            "[[route]]\nto = 'http://127.0.0.1:1/'",
            "line 2: route.to: the URL is not permitted: its address is not of the public internet; allow_private_addresses = true permits it",
        ),
        ("[[route]]\nto = 'exec:/no/program'", "line 2: route.to: there is no such program"),
        (
            "[[route]]\nto = 'nats://127.0.0.1:4222'",
            "line 2: route.to: name the stream at the end, as in nats://host:4222/STREAM",
        ),
        (
            "[[route]]\nto = 'nats://a:4222/EVENTS'\nmin_replicas = 0",
            "line 3: route.min_replicas: this must be a whole number from 1 to 5",
        ),
        ("[[route]]\nto = 'nats://u:p@/EVENTS'", "line 2: route.to: the URL is invalid: "),
        (
            "[[route]]\nto = 'nats://a:4222,http://b/EVENTS'",
            "line 2: route.to: the URL is invalid: it begins with neither nats:// nor tls://",
        ),
        (
            "[[route]]\nto = 'nats://a:4222/MY EVENTS'",
            "line 2: route.to: the name of the stream is invalid: ",
        ),
        (
            "[[route]]\nto = 'nats://a:4222/EVENTS'\nallow_private_addresses = true",
            "line 3: route.allow_private_addresses: there is no such key; here are: events, to, timeout_seconds, min_replicas, ",
        ),
        (
            "[[route]]\nto = 'nats://a:4222/EVENTS'\ncredentials_file = 'none'",
            "line 3: route.credentials_file: the credentials file cannot be used: ",
        ),
        (
            "[[route]]\nto = 'tls://a:4222/EVENTS'\nca_cert = 'relay.toml'",
            "line 3: route.ca_cert: the root certificates are not in PEM form",
        ),
        (
            "[[route]]\nto = { env = 'NOT_SET' }",
            "line 2: route.to: the environment variable NOT_SET is not set",
        ),
        // Secrets.
        ("[[secret]]\nenv = 'A'", "line 1: secret.name: this key is missing"),
        ("[[secret]]\nname = 'a'", "line 1: secret.env: this key or file is missing"),
        ("[[secret]]\nname = 'a'\nenv = 'NOT_SET'", "line 1: secret.env: no webhook secret: set NOT_SET"),
        (
            "[[secret]]\nname = 'a'\nsecret = 'whsec_abcdefgh'\nenv = 'SMARTSHAPE_WEBHOOK_SECRET'",
            "line 3: secret.secret: there is no such key; here are: name, env, file, events, webhook",
        ),
        ("inbox = { env = 'NOT_SET' }", "line 1: inbox: the environment variable NOT_SET is not set"),
    ];
    let route = "[[route]]\nto = 'https://app.example.com/events'\n";
    let files_with_routes = [
        (
            with_route("events = [\n  'file_uploaded',\n  'file_upload']"),
            "line 7: route.events: there is no event file_upload; there are attribute_updated, ",
        ),
        (format!("{route}{route}"), "line 3: route.events: another route without this key"),
        (
            format!("{route}events = ['file_uploaded']\n{route}events = ['file_optimized', 'file_uploaded']"),
            "line 6: route.events: another route has file_uploaded: an event goes to one target",
        ),
        (
            format!("inbox = 'relay.db'\nui = '127.0.0.1:0'\n{route}"),
            "line 2: ui: the console of a relay needs a password: ",
        ),
        (
            format!("inbox = 'relay.db'\nui = '127.0.0.1:0'\nui_password = {{ env = 'SHORT' }}\n{route}"),
            "line 3: ui_password: the console's password has fewer than 12 characters",
        ),
    ];
    let lines = lines.map(|(line, says)| (with_route(line), format!("line 5: route.{says}")));
    let files = files.map(|(settings, says)| (settings.to_owned(), says.to_owned()));
    let others = files_with_routes.map(|(settings, says)| (settings, says.to_owned()));
    for (settings, says) in lines.into_iter().chain(files).chain(others) {
        let failed = run_with(&home, &settings).await;
        failed.assert_fails(2, &format!("smartshape: relay.toml, {says}"));
        assert!(!failed.err.contains("whsec_abcdefgh") && !failed.err.contains("u:p"), "{failed:?}");
    }
    home.write("relay.toml", b"# \nlisten = \"\xff\"");
    run(&mut command(&home, &["--config", "relay.toml"]))
        .await
        .assert_fails(2, "relay.toml, line 2: this is not UTF-8");
}

#[tokio::test]
async fn example_settings_and_systemd_unit_are_valid() {
    let home = Home::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/relay");
    let settings = examples.join("relay.toml");
    Relay::start(command(&home, &["--config", settings.to_str().unwrap()])).await;

    let unit = std::fs::read_to_string(examples.join("smartshape-relay.service")).unwrap();
    // Whether the program is installed is looked at too.
    let unit = unit.replace("/usr/local/bin/smartshape", env!("CARGO_BIN_EXE_smartshape"));
    let path = home.path().join("smartshape-relay.service");
    std::fs::write(&path, unit).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output().await {
        Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{output:?}"),
        Err(error) => println!("skipped: systemd-analyze cannot be run: {error}"),
    }
}

/// Each step of the container file, for machines without a container runtime: what it builds is this program but for
/// the profile, what it starts runs, and what it leaves out is not needed.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn container_file_builds_and_starts_the_relay() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/relay");
    let text = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
    let steps = |name: &str| -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
    };
    let image = steps("FROM")[0].strip_prefix("rust:1.").unwrap().split('-').next().unwrap();
    let needed = env!("CARGO_PKG_RUST_VERSION").strip_prefix("1.").unwrap();
    assert!(image.parse::<u32>().unwrap() >= needed.parse().unwrap(), "{image} {needed}");
    assert_eq!(steps("RUN"), [concat!("cargo build --locked --release --package ", env!("CARGO_PKG_NAME"))]);
    let copies = ". .\n--from=build /source/target/release/smartshape /usr/local/bin/smartshape";
    assert_eq!((steps("COPY").join("\n"), steps("WORKDIR")), (copies.to_owned(), vec!["/source", "/data"]));
    let ignored = std::fs::read_to_string(folder.join("Dockerfile.dockerignore")).unwrap();
    assert_eq!(ignored, "**/target\n**/node_modules\n.git\n", "the build needs everything else");

    let home = Home::new();
    std::fs::copy(folder.join("relay.toml"), home.path().join("relay.toml")).unwrap();
    let settings = std::fs::read_to_string(folder.join("relay.toml")).unwrap();
    assert!(!settings.contains("\nto = \"exec:"), "the image has no other program");
    let words = |name: &str| serde_json::from_str::<Vec<String>>(steps(name)[0]).unwrap();
    assert_eq!(words("ENTRYPOINT"), ["/usr/local/bin/smartshape", "relay"]);
    let arguments =
        words("CMD").into_iter().map(|word| word.replace("/data", &home.path().to_string_lossy()));
    let arguments: Vec<String> = arguments.collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Relay::start(command(&home, &arguments)).await;

    // The image has no other libraries.
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_smartshape")).output().await.unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let path = Path::new(line.split_whitespace().next().unwrap());
        let name = path.file_name().unwrap().to_string_lossy();
        let there = ["linux-vdso.", "libgcc_s.", "libm.", "libc.", "ld-linux"];
        assert!(there.iter().any(|library| name.starts_with(library)), "{line}");
    }
}

#[tokio::test]
async fn missing_settings_are_named() {
    let home = Home::new();
    home.write("route.toml", "[[route]]\nto = 'exec:true'\n");
    let secret = "inbox = 'relay.db'\n[[secret]]\nname = 'all'\nenv = 'SMARTSHAPE_WEBHOOK_SECRET'\n";
    home.write("secret.toml", secret);
    for (arguments, says) in [
        ("--to exec:true", "there is no inbox: name a file or a postgres:// URL by --inbox"),
        ("--inbox relay.db", "where do the events go? Say so by --to"),
        ("--inbox relay.db --to app.example.com", "--to: this must begin with https://"),
        ("--inbox relay.db --to exec:/no/program", "--to: there is no such program"),
        ("--config none.toml", "cannot read the settings from none.toml"),
        (
            "--inbox relay.db --to exec:true --password-file none",
            "--password-file is the console's: add --ui",
        ),
        (
            "--inbox relay.db --to exec:true --config route.toml",
            "--to and [[route]] in the file: leave one of them out",
        ),
        (
            "--to exec:true --config secret.toml --secret -",
            "--secret and [[secret]] in the file: leave one of them out",
        ),
        (
            "--inbox relay.db --to exec:true --secret - --apply webhooks.json",
            "--secret and declared webhooks, which have secrets: leave it out",
        ),
    ] {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        run(&mut command(&home, &arguments)).await.assert_fails(2, says);
    }

    let unsigned = ["--inbox", "relay.db", "--to", "https://app.example.com/events"];
    // Each names the setting, also where the route of a file leaves it to the environment.
    home.write("route.toml", with_route(""));
    for (arguments, prefix) in [
        (&unsigned[..], "smartshape: "),
        (&["--config", "route.toml"], "smartshape: route.toml, line 3: route.signing_secret: "),
    ] {
        for (suffix, value, says) in [
            ("", "", "no secret to sign with: set SMARTSHAPE_RELAY_SIGNING_SECRET"),
            (
                "",
                "whsec_AAAA",
                "SMARTSHAPE_RELAY_SIGNING_SECRET: the signing secret is invalid: it has 3 bytes",
            ),
            ("_FILE", "none", "SMARTSHAPE_RELAY_SIGNING_SECRET_FILE: cannot read none: "),
        ] {
            let mut program = command(&home, arguments);
            program.env_remove("SMARTSHAPE_RELAY_SIGNING_SECRET");
            program.env(format!("SMARTSHAPE_RELAY_SIGNING_SECRET{suffix}"), value);
            run(&mut program).await.assert_fails(2, &format!("{prefix}{says}"));
        }
    }
    let mut program = command(&home, &unsigned);
    run(program.env_remove("SMARTSHAPE_WEBHOOK_SECRET")).await.assert_fails(2, "SMARTSHAPE_WEBHOOK_SECRET");
    assert!(!home.path().join("relay.db").exists(), "nothing is created before all settings are right");
}
